from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from eval.latency import by_stage, latency, peak_rss_bytes
from eval.machine import describe_machine
from eval.page import figure
from eval.record import (
    DatasetFacts,
    IndexFacts,
    ModelFacts,
    RunRecord,
    read_record,
    record_path,
    write_record,
)
from eval.report import render, write_report
from indexes.errors import InvalidInput, MalformedInput, NotFound, UsageError


def record(name="bm25", values=(0.5, 0.7), **more):
    per_query = {"nDCG@10": {f"q{i}": v for i, v in enumerate(values)}}
    model = ModelFacts("all-MiniLM-L6-v2", "abc123", "f" * 64)
    index = IndexFacts("tiny", 3, 10, 12, 2_097_152, "c" * 64, "a" * 64, "rag 0.1.0", [model])
    facts = {
        "name": name,
        "task": "beir",
        "dataset": DatasetFacts("tiny", "test"),
        "config": {"retrievers": [name], "k1": 0.9},
        "measures": {"nDCG@10": sum(values) / len(values)},
        "per_query": per_query,
        "n_queries": len(values),
        "n_missing": 0,
        "tool_version": "rag 0.1.0",
        "machine": describe_machine(),
        "created": "2026-01-02T03:04:05Z",
        "index": index,
        "latency": by_stage([{"search": 1.0, "total": 2.0}, {"search": 3.0, "total": 4.0}]),
        "cold_start_ms": 321.0,
        "peak_rss_bytes": 512 * 1024 * 1024,
    }
    return RunRecord(**(facts | more))


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of turn; collects what the page would load."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.ids, self.targets = [], [], set(), set()

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "src":
                self.loads.append(value)
            if name == "id":
                self.ids.add(value)
            if name == "href":
                self.targets.add(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    return parser


@pytest.mark.slow
def test_the_page_is_self_contained_and_carries_what_made_it(tmp_path):
    out = write_report([record(), record("dense", (0.9, 0.6))], tmp_path / "report")
    text = out.read_text(encoding="utf-8")
    page = parsed(text)
    assert page.targets == {f"#{anchor}" for anchor in page.ids} == {"#g1-1", "#g1-2"}
    assert len(page.loads) == 4
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.loads)
    for fact in ("0.6000", "0.7500", "c" * 64, "a" * 64, "f" * 64, "k1", "wins / ties / losses"):
        assert fact in text
    for cell in ("2.00", "2.90", "2.98", "3.00", "321", "512", "2.0"):
        assert f"<td>{cell}</td>" in text


@pytest.mark.slow
def test_the_same_records_make_the_same_bytes():
    assert render([record()]) == render([record()])


def test_runs_on_different_data_get_sections_of_their_own():
    bare = {"index": None, "latency": {}}
    text = render([record(**bare), record(dataset=DatasetFacts("other", ""), **bare)])
    assert re.findall("<h2>(.*?)</h2>", text) == ["beir: tiny (test)", "beir: other"]
    assert "wins / ties" not in text


def test_names_are_escaped():
    text = render([record("<script>alert(1)</script>")])
    assert "<script>" not in text
    parsed(text)
    assert '"' not in figure("<svg/>", 'a "caption"').split('alt="')[1].split('" src')[0]


def test_a_run_without_costs_or_index():
    bare = record(index=None, latency={}, cold_start_ms=None, peak_rss_bytes=None)
    page = parsed(render([bare]))
    assert page.loads == []


def test_runs_over_different_queries_are_not_compared():
    text = render([record(), record("b", (0.1, 0.2, 0.3))])
    assert "not scored alike" in text


def test_what_makes_no_report():
    with pytest.raises(UsageError, match="at least one"):
        render([])
    with pytest.raises(UsageError, match="called 'bm25'"):
        render([record(), record()])


def test_a_record_reads_back_by_its_own_path_or_its_run(tmp_path):
    path = record_path(tmp_path / "bm25.trec.gz")
    assert path.name == "bm25.record.json"
    write_record(path, record())
    assert read_record(path) == read_record(tmp_path / "bm25.trec.gz") == record()


def test_broken_records(tmp_path):
    with pytest.raises(NotFound):
        read_record(tmp_path / "x.trec")
    (tmp_path / "x.record.json").write_text("{")
    with pytest.raises(MalformedInput):
        read_record(tmp_path / "x.trec")
    (tmp_path / "x.record.json").write_bytes(
        msgspec.json.encode({**msgspec.to_builtins(record()), "unheard": 1})
    )
    with pytest.raises(InvalidInput, match="unheard"):
        read_record(tmp_path / "x.trec")


def test_percentiles_by_hand():
    one = latency([10.0, 20.0, 30.0, 40.0, 50.0])
    assert (one.n, one.mean_ms, one.p50_ms) == (5, 30.0, 30.0)
    assert (one.p95_ms, one.p99_ms) == pytest.approx((48.0, 49.6))
    stages = by_stage([{"a": 1.0}, {"a": 3.0, "b": 5.0}])
    assert (stages["a"].n, stages["a"].p50_ms, stages["b"].p99_ms) == (2, 2.0, 5.0)


def test_the_machine_and_its_memory():
    machine = describe_machine()
    assert machine.n_cores >= 1
    assert machine.cpu
    assert 1 << 20 < peak_rss_bytes() < machine.memory_bytes
