"""`rag bench compress` on tiny models: what it says adds up, both engines keep what is asked."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

sys.path.insert(0, str(Path(__file__).parents[1] / "compress"))

from toy_classifiers import PROSE, save_bert

from indexes.errors import InvalidInput, UsageError
from rag.cli import bench
from rag.cli.main import common_flags
from rag.config import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, a classifier, and a generator of which only the tokenizer counts."""
    folder = tmp_path_factory.mktemp("bench")
    rows = [{"_id": str(n), "title": "", "text": PROSE * (1 + n % 3)} for n in range(6)]
    (folder / "beir").mkdir()
    (folder / "beir" / "corpus.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "beir" / "queries.jsonl").write_text('{"_id": "q", "text": "lead"}\n')
    save_bert(folder / "classifier")
    shutil.copytree(folder / "classifier", folder / "generator")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*letters, "th", "the"])}
    made = Tokenizer(models.BPE(vocabulary, [("t", "h"), ("th", "e")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.save(str(folder / "generator" / "tokenizer.json"))
    return folder


def run(folder: Path, *arguments: str, generator: str = "generator") -> int:
    parser = argparse.ArgumentParser()
    bench.add_parser(parser.add_subparsers(), common_flags())
    args = parser.parse_args(["bench", "compress", *arguments])
    flags = {"cache": str(folder / "cache"), "generator": str(folder / generator)}
    flags["compressor"] = "none"
    return int(args.run(args, load_settings({**flags, "n_threads": 1}, {})))


def test_rounds_ratio_and_rates(folder, capsys):
    data, model = str(folder / "beir"), str(folder / "classifier")
    flags = ["--data", data, "--model", model, "--rounds", "2", "--rate", "0.4"]
    assert run(folder, *flags, "--join", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["n_texts"] == 3
    rows = {row["engine"]: row for row in found["rows"]}
    assert rows.keys() == {"evident", "llmlingua"}
    assert all(len(row["seconds"]) == 2 for row in rows.values())
    speeds = [rows[name]["tokens_per_s"] for name in ("evident", "llmlingua")]
    assert found["ratio"] == pytest.approx(speeds[0] / speeds[1], rel=0.05)
    assert 0.392 <= rows["evident"]["kept"] <= 0.4
    assert 0.2 < rows["llmlingua"]["kept"] < 0.6
    assert run(folder, *flags, "--limit", "1") == 0
    assert "ratio" in capsys.readouterr().out


def test_what_cannot_be_measured_says_so(folder, tmp_path):
    model = str(folder / "classifier")
    (tmp_path / "empty.jsonl").write_text('{"text": "no id"}\n')
    with pytest.raises(InvalidInput, match="no documents"):
        run(folder, "--data", str(tmp_path / "empty.jsonl"), "--model", model)
    data = str(folder / "beir")
    with pytest.raises(UsageError, match="byte-level"):
        run(folder, "--data", data, "--model", model, generator="classifier")
    with pytest.raises(UsageError, match="no token classifier"):
        run(folder, "--data", data)
    with pytest.raises(UsageError, match="between 0 and 1"):
        run(folder, "--data", data, "--model", model, "--rate", "1")
