"""`rag eval beir` from documents to numbers."""

from __future__ import annotations

import json

import pytest

from eval.beir import read_beir
from eval.measures import score_run
from eval.record import read_record
from eval.run import read_run
from rag.cli.main import main


@pytest.fixture
def rag(tmp_path, capsys):
    def call(*arguments, code=0):
        common = ["--root", str(tmp_path / "indexes"), "--json"]
        assert main(["eval", *map(str, arguments), *common]) == code
        captured = capsys.readouterr()
        return captured.err if code else json.loads(captured.out)

    return call


@pytest.mark.slow
def test_a_run_its_record_and_its_score(rag, animals, tmp_path):
    out = tmp_path / "runs" / "mine.trec.gz"
    shown = rag(
        "beir", animals, "--retrievers", "bm25", "--limit", 3, "--timed", 2, "--out", out,
        "--measure", "nDCG@10", "--measure", "R@3",
    )  # fmt: skip
    assert list(shown) == ["measures", "n_queries", "n_missing", "config"]
    assert (shown["n_queries"], shown["n_missing"]) == (4, 1)
    run = read_run(out)
    assert {query: len(scores) for query, scores in run.items()} == {"q1": 2, "q2": 2, "q3": 1}
    scores = score_run(read_beir(animals).qrels, run, ["nDCG@10", "R@3"])
    assert shown["measures"] == scores.measures
    record = read_record(out)
    assert (record.name, record.run, record.measures) == ("mine", out.name, scores.measures)
    assert record.per_query == scores.per_query
    assert (record.index.n_documents, record.counts["n_hits"]) == (5, 5)
    assert record.index.bytes > 0
    assert record.peak_rss_bytes > 2**20
    assert {"open", "encode", "search.bm25", "fetch", "total"} <= set(record.latency)
    assert record.latency["total"].n == 2
    assert record.cold_start_ms > record.latency["search.bm25"].p50_ms > 0
    assert record.config["search"]["fusion"] is None
    assert record.config["index"]["retrievers"][0]["params"] == {"k1": 0.9, "b": 0.4}
    again = rag("beir", animals, "--run", out, "--measure", "nDCG@10", "--measure", "R@3")
    assert again["measures"] == shown["measures"]


def test_the_index_is_reused_and_can_be_named(rag, animals, tmp_path):
    common = ("beir", animals, "--timed", 0)
    assert "'x' is no catalogue name" in rag(*common, "--retrievers", "bm25,m=x", code=1)
    built = rag(*common, "--index", "mine", "--retrievers", "bm25")
    used = rag(*common, "--index", "mine")
    assert built == used
    manifest = (tmp_path / "indexes" / "mine" / "manifest.json").read_bytes()
    assert rag(*common, "--index", "mine", "--retrievers", "bm25") == built
    assert (tmp_path / "indexes" / "mine" / "manifest.json").read_bytes() == manifest
    assert "there is no index" in rag(*common, "--index", "other", code=1)


def test_own_documents_are_dropped_where_the_protocol_has_it(rag, animals, tmp_path):
    (animals / "queries.jsonl").write_text('{"_id": "owl", "text": "owl hunts mice"}\n')
    (animals / "qrels" / "test.tsv").write_text("owl\tfox\t1\n")
    quora = animals.rename(tmp_path / "quora")
    common = ("beir", quora, "--retrievers", "bm25", "--timed", 0, "--measure", "RR@10")
    assert rag(*common)["measures"] == {"RR@10": 1.0}
    assert rag(*common, "--keep-self")["measures"] == {"RR@10": 0.5}
    shown = rag(*common, "--drop-self")
    assert shown["config"]["search"]["drop_self"] is True


@pytest.mark.parametrize(
    ("flags", "code", "reason"),
    [
        (["--retrievers", "bm52"], 2, "unknown retriever 'bm52'"),
        (["--limit", "0"], 2, "the limit is 0"),
        (["--timed", "-1"], 2, "--timed"),
        (["--passage-words", "-1"], 2, "--passage-words"),
        (["--fusion", "borda"], 2, "--fusion"),
        (["--retrievers", "bm25", "--search", "minilm", "--timed", "0"], 2, "no retriever"),
        (["--run", "x.trec", "--index", "i", "--keep-self"], 2, "--index, --drop-self cannot"),
        (["--split", "dev"], 1, "no split 'dev'"),
    ],
)
def test_wrong_usage(rag, animals, flags, code, reason):
    assert reason in rag("beir", animals, *flags, code=code)


def test_an_index_of_other_documents(rag, animals, tmp_path):
    rag("beir", animals, "--index", "mine", "--retrievers", "bm25", "--timed", 0)
    text = (animals / "corpus.jsonl").read_text()
    (animals / "corpus.jsonl").write_text(text.replace('"_id": "', '"_id": "x-'))
    qrels = (animals / "qrels" / "test.tsv").read_text().splitlines()
    moved = [line.replace("\t", "\tx-", 1) for line in qrels[1:]]
    (animals / "qrels" / "test.tsv").write_text("\n".join(moved) + "\n")
    assert "holds none of the" in rag("beir", animals, "--index", "mine", code=1)


@pytest.mark.slow
def test_scifact_by_bm25(rag, shared):
    shown = rag("beir", shared("beir", "scifact"), "--retrievers", "bm25", "--timed", 0)
    assert shown["measures"]["nDCG@10"] == pytest.approx(0.6797, abs=5e-5)
    assert shown["measures"]["R@100"] == pytest.approx(0.9287, abs=5e-5)
    assert (shown["n_queries"], shown["n_missing"]) == (300, 0)
