"""`rag bench encode` on a tiny model: what it says adds up, and the vectors agree."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "retrievers"))

from toy_checkpoints import WORDS, save_bert, save_llama

from indexes.errors import InvalidInput, UsageError
from rag.cli import bench
from rag.cli.main import common_flags
from rag.config import load_settings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder whose documents are of mixed length."""
    folder = tmp_path_factory.mktemp("beir")
    random_ = random.Random(3)
    rows = [
        {"_id": str(n), "title": "cat", "text": " ".join(random_.choices(WORDS[:8], k=3 + 7 * n))}
        for n in range(6)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "cat"}\n')
    return folder


def run(arguments: list[str], cache: Path) -> int:
    common = common_flags()
    parser = argparse.ArgumentParser()
    bench.add_parser(parser.add_subparsers(), common)
    args = parser.parse_args(["bench", "encode", *arguments])
    return int(args.run(args, load_settings({"cache": str(cache), "n_threads": 1}, {})))


def test_rounds_ratio_and_difference(data, tmp_path, capsys):
    bert = save_bert(tmp_path / "bert")
    flags = ["--data", str(data), "--model", str(bert), "--rounds", "2", "--max-tokens", "24"]
    assert run([*flags, "--limit", "5", "--json"], tmp_path) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_documents"] == 5
    assert (found["shortest_tokens"], found["longest_tokens"]) == (6, 24)
    rows = {row["engine"]: row for row in found["rows"]}
    assert rows.keys() == {"evident", "sentence-transformers", "floor"}
    assert all(len(row["seconds"]) == 2 for row in rows.values())
    speeds = [rows[name]["documents_per_s"] for name in ("evident", "sentence-transformers")]
    assert found["ratio"] == pytest.approx(speeds[0] / speeds[1], rel=0.05)
    assert found["max_abs_difference"] < 1e-4
    assert run([*flags, "--limit", "2"], tmp_path) == 0
    assert "ratio" in capsys.readouterr().out


def test_what_cannot_be_measured_says_so(data, tmp_path):
    bert = save_bert(tmp_path / "bert")
    unusable = tmp_path / "unusable.jsonl"
    unusable.write_text('{"text": "no id"}\n')
    with pytest.raises(InvalidInput, match="no documents"):
        run(["--data", str(unusable), "--model", str(bert)], tmp_path)
    llama = save_llama(tmp_path / "llama")
    with pytest.raises(UsageError, match="no peer"):
        run(["--data", str(data), "--model", str(llama)], tmp_path)
