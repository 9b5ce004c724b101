from __future__ import annotations

import json
import re

import pytest

from eval.commands import matrix as command
from eval.expected import Expected, check_names
from eval.matrix import read_matrix, read_toml
from eval.record import read_record
from rag.cli.main import main

OWN = command._OWN
MATRIX = """
measures = ["RR@10"]
limit = 5
timed = 0

[[datasets]]
name = "small"
path = "animals"

[[configurations]]
name = "plain"
retrievers = "bm25"

[[configurations]]
name = "{second}"
retrievers = "bm25:b={b}"
passage_words = 0
"""


@pytest.fixture
def rag(tmp_path, animals, capsys):
    """Run the matrix of `tmp_path`; its cells by configuration."""

    def call(*flags, code=0, second="tuned", b="0.9"):
        path = tmp_path / "m.toml"
        path.write_text(MATRIX.format(second=second, b=b))
        arguments = [str(path), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
        common = ["--root", str(tmp_path / "indexes"), "--json"]
        assert main(["eval", "matrix", *arguments, *flags, *common]) == code
        captured = capsys.readouterr()
        rows = [json.loads(line) for line in captured.out.splitlines()]
        return {row["configuration"]: row for row in rows} if rows else captured.err

    return call


@pytest.mark.slow
def test_cells_are_measured_once(rag, tmp_path, animals):
    first = rag()
    assert {name: row["reused"] for name, row in first.items()} == {"plain": False, "tuned": False}
    assert first["plain"]["measures"] == {"RR@10": 0.75}
    record = read_record(tmp_path / "out" / "small.plain.trec.gz")
    assert (record.name, record.dataset.name) == ("small.plain", "small")
    again = rag()
    assert all(row["reused"] for row in again.values())
    assert {n: r["measures"] for n, r in again.items()} == {
        n: r["measures"] for n, r in first.items()
    }
    changed = rag(b="0.1")
    assert {name: row["reused"] for name, row in changed.items()} == {
        "plain": True,
        "tuned": False,
    }
    (animals / "qrels" / "test.tsv").write_text("q1\towl\t1\n")
    assert not any(row["reused"] for row in rag(b="0.1").values())
    record_file = tmp_path / "out" / "small.plain.record.json"
    record_file.write_text("{")
    repaired = rag(b="0.1")
    assert (repaired["plain"]["reused"], repaired["tuned"]["reused"]) == (False, True)


@pytest.mark.slow
def test_scores_are_held_against_the_expected_ones(rag, tmp_path):
    wanted = tmp_path / "expected.toml"
    wanted.write_text('[small.plain]\n"RR@10" = { value = 0.7499, tolerance = 0.001 }\n')
    (check,) = rag("--expected", str(wanted))["plain"]["checks"]
    assert check["ok"]
    wanted.write_text('[small.plain]\n"RR@10" = { value = 0.7, tolerance = 0.001 }\n')
    (check,) = rag("--expected", str(wanted), code=1)["plain"]["checks"]
    assert (check["ok"], check["found"], check["expected"]) == (False, 0.75, 0.7)
    only = rag("--expected", str(wanted), "--only", "*.tuned")
    assert list(only) == ["tuned"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[small.other]\n"RR@10" = { value = 1, tolerance = 0 }\n', "small.other: no such cell"),
        ('[small.plain]\n"P@1" = { value = 1, tolerance = 0 }\n', "not scored by 'P@1'"),
        ('[small.plain]\n"RR@10" = 1\n', "expected.toml.*Expected `object`"),
        ('[small.plain]\n"RR@10" = { value = 1, tolerance = -1 }\n', "expected.toml"),
        ("[[", "expected.toml"),
    ],
)
def test_broken_expectations(rag, tmp_path, text, reason):
    path = tmp_path / "expected.toml"
    path.write_text(text)
    assert re.search(reason, rag("--expected", str(path), code=2))


def test_broken_matrices(rag, tmp_path, capsys):
    assert "name is there twice" in rag(second="plain", code=2)
    assert "m.toml" in rag(second="no name", code=2)
    assert "no cell of the matrix is called 'x'" in rag("--only", "x", code=2)
    assert main(["eval", "matrix", "none.toml", "--data", str(tmp_path)]) == 1
    assert main(["eval", "matrix", "--data", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_the_committed_files_belong_together():
    config = read_matrix(OWN / "matrix.toml")
    expected = read_toml(OWN / "expected.toml", Expected)
    check_names(expected, config)
    assert {entry.name for entry in config.datasets} == set(expected)


@pytest.mark.slow
def test_the_smallest_part_is_reproduced(shared, tmp_path, capsys):
    data = shared("classic", "cacm").parents[1]
    arguments = ["--data", str(data), "--only", "cacm.bm25", "--out", str(tmp_path / "out")]
    assert main(["eval", "matrix", *arguments, "--root", str(tmp_path / "i"), "--json"]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [check["ok"] for check in row["checks"]] == [True] * 4
