from __future__ import annotations

import json
import subprocess
import sys

import pytest

from eval.measures import score_run
from eval.qrels import read_qrels
from eval.record import DatasetFacts, read_record, record_path, write_record
from eval.run import read_run, write_run
from eval.stored_run import score_stored_run
from rag.cli.main import main


@pytest.fixture
def tiny(tmp_path):
    """A BEIR folder and two runs over it."""
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    ids = [f"d{i}" for i in range(6)]
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": i, "title": "", "text": i}) + "\n" for i in ids)
    )
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{i}", "text": "?"}) + "\n" for i in range(6))
    )
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(6))
    )
    good = {f"q{i}": {f"d{i}": 2.0, "d0": 1.0} for i in range(5)}
    poor = {f"q{i}": {f"d{i}": 1.0, "d5": 2.0} for i in range(6)}
    write_run(tmp_path / "good.trec.gz", good, "good")
    write_run(tmp_path / "poor.trec", poor, "poor")
    return tmp_path


def run_json(capsys, *arguments):
    assert main(["eval", *map(str, arguments), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_beir_scores_a_stored_run(tiny, capsys):
    (out,) = run_json(capsys, "beir", tiny / "tiny", "--run", tiny / "good.trec.gz")
    assert list(out) == ["measures", "n_queries", "n_missing", "config"]
    assert out["measures"] == pytest.approx(dict.fromkeys(out["measures"], 5 / 6))
    assert (out["n_queries"], out["n_missing"]) == (6, 1)
    assert out["config"]["run"] == "good.trec.gz"


def test_beir_prints_a_table(tiny, capsys):
    command = ["eval", "beir", str(tiny / "tiny"), "--run", str(tiny / "poor.trec")]
    assert main([*command, "--measure", "RR@10", "--measure", "P@1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["measure", "value"],
        ["RR@10", "0.5833"],
        ["P@1", "0.1667"],
    ]


def test_compare_by_judgements_and_by_records(tiny, capsys):
    qrels = tiny / "tiny" / "qrels" / "test.tsv"
    runs = (tiny / "poor.trec", tiny / "good.trec.gz")
    by_qrels = run_json(capsys, "compare", *runs, "--qrels", qrels)
    for path in runs:
        record = score_stored_run(path, read_qrels(qrels), DatasetFacts("tiny", "test"))
        write_record(record_path(path), record)
    assert run_json(capsys, "compare", *runs) == by_qrels
    assert [row["measure"] for row in by_qrels] == ["nDCG@10", "R@100", "RR@10", "MAP"]
    assert (by_qrels[0]["wins"], by_qrels[0]["ties"], by_qrels[0]["losses"]) == (5, 0, 1)


def test_report_writes_a_page(tiny, capsys):
    qrels = tiny / "tiny" / "qrels" / "test.tsv"
    runs = (tiny / "poor.trec", tiny / "good.trec.gz")
    (out,) = run_json(capsys, "report", *runs, "--qrels", qrels, "--out", tiny / "report")
    text = (tiny / "report" / "index.html").read_text()
    assert out == {"report": str(tiny / "report" / "index.html")}
    assert "poor" in text
    assert "good.trec.gz" in text


def test_kilt(shared, capsys):
    folder = shared("kilt", "eval_fixtures")
    (out,) = run_json(capsys, "kilt", folder / "guess1_1.jsonl", folder / "gold1.jsonl")
    assert out["kilt"]["KILT-rougel"] == pytest.approx(0.3333333316666667, abs=1e-15)
    assert out["retrieval"]["Rprec"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["beir", "tiny", "--run", "poor.trec", "--measure", "nDGC@10"], 2, "no measure 'nDGC@10'"),
        (["beir", "tiny", "--run", "none.trec"], 1, "there is no file"),
        (["beir", "tiny", "--run", "poor.trec", "--split", "dev"], 1, "no split 'dev'"),
        (["compare", "poor.trec", "poor.trec", "--qrels", "tiny/qrels/test.tsv"], 2, "two of"),
        (["compare", "poor.trec", "good.trec.gz"], 1, "there is no record"),
        (["kilt", "poor.trec", "poor.trec", "--ks", "0"], 2, "--ks"),
        (["kilt", "poor.trec", "poor.trec"], 1, "line 1 is not JSON"),
    ],
)
def test_errors_are_sentences_with_exit_codes(tiny, monkeypatch, capsys, arguments, code, reason):
    monkeypatch.chdir(tiny)
    assert main(["eval", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert reason in captured.err


def test_the_stored_record_is_what_scoring_gives(tiny):
    path = tiny / "good.trec.gz"
    qrels = read_qrels(tiny / "tiny" / "qrels" / "test.tsv")
    record = score_stored_run(path, qrels, DatasetFacts("tiny", "test"))
    write_record(record_path(path), record)
    scores = score_run(qrels, read_run(path))
    assert read_record(path).measures == scores.measures
    assert read_record(path).per_query == scores.per_query


def test_importing_the_commands_loads_nothing_heavy():
    heavy = ["numpy", "scipy", "matplotlib", "ir_measures", "torch"]
    code = f"import sys, eval.commands; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
