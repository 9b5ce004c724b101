"""One stage alone, from Python and from the command line."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "retrievers"))

from toy_checkpoints import VOCABULARY, paper, save_bert

from rag.cli import encode as command
from rag.cli.main import common_flags
from rag.config import load_settings
from rag.encode import SparseCode, TextEncoder
from rag.progress import Silent
from rag.retrievers.retriever import parse_spec

LINES = ["cat dogs", "", "river, tree"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("encode") / "bert")


def run(arguments: list[str], lines: list[str], monkeypatch, cache: Path) -> int:
    common = common_flags()
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(), common)
    args = parser.parse_args(["encode", *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))
    return int(args.run(args, load_settings({"cache": str(cache), "n_threads": 1}, {})))


@pytest.mark.slow
@pytest.mark.parametrize("side", ["--query", "--passage"])
def test_a_line_in_a_line_out(bert, tmp_path, monkeypatch, capsys, side):
    many = LINES * 9  # more than one portion
    assert run([side, "--json", "--retriever", f"x={bert}"], many, monkeypatch, tmp_path) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(many)
    for text, row in zip(many, rows, strict=True):
        assert row["tokens"] == [VOCABULARY[number] for number in row["indices"]]
        assert row["values"] == sorted(row["values"], reverse=True)
        found = dict(zip(row["tokens"], row["values"], strict=True))
        assert found == pytest.approx(paper(bert, text), abs=1e-5)


def test_for_a_person_the_heaviest_terms_come_first(bert, tmp_path, monkeypatch, capsys):
    assert run(["--retriever", f"x={bert}"], ["cat"], monkeypatch, tmp_path) == 0
    term, weight = max(paper(bert, "cat").items(), key=lambda item: item[1])
    assert capsys.readouterr().out.startswith(f"{term} {weight:.2f}")


def test_bm25_gives_terms_without_numbers(tmp_path):
    settings = load_settings({"cache": str(tmp_path)}, {})
    encoder = TextEncoder(parse_spec("bm25"), settings, Silent())
    (code,) = encoder.passages(["Cats and cats, dogs"])
    assert code == SparseCode([], [2.0, 1.0], ["cat", "dog"])
    assert encoder.queries(["Cats and cats, dogs"]) == [code]


def test_dense_vectors_are_lists(bert, tmp_path):
    settings = load_settings({"cache": str(tmp_path), "n_threads": 1}, {})
    encoder = TextEncoder(parse_spec(f"x={bert}:kind=dense"), settings, Silent())
    (vector,) = encoder.passages(["cat"])
    assert isinstance(vector, list)
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-5)
