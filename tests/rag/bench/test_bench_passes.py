"""`rag bench passes` on tiny models: what it says adds up."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "retrievers"))

from toy_checkpoints import save_bert
from toy_duplex import our_folder, sentence_encoder

from indexes.errors import InvalidInput
from rag.cli import bench
from rag.cli.main import common_flags
from rag.config import load_settings


def run(arguments: list[str], cache: Path) -> int:
    parser = argparse.ArgumentParser()
    bench.add_parser(parser.add_subparsers(), common_flags())
    args = parser.parse_args(["bench", "passes", *arguments])
    return int(args.run(args, load_settings({"cache": str(cache), "n_threads": 1}, {})))


def test_every_retriever_and_all_together(tmp_path, capsys):
    base = sentence_encoder(save_bert(tmp_path / "bert"), tmp_path / "base")
    ours = our_folder(base, tmp_path / "ours", tmp_path / "cache")
    rows = [{"_id": str(n), "text": "cat dog river " * (n + 1)} for n in range(7)]
    documents = tmp_path / "documents.jsonl"
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--data", str(documents), "--retrievers", f"bm25,m={base}:kind=dense,d={ours}"]
    assert run([*flags, "--rounds", "2", "--limit", "5", "--json"], tmp_path / "cache") == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["bm25", "m", "d", "together"]
    assert (found["n_documents"], found["n_passages"]) == (5, 5)
    assert all(len(row["seconds"]) == 2 for row in rows.values())
    cpu = {name: row["cpu_seconds"] for name, row in rows.items()}
    # Seconds are rounded, so two may be alike.
    assert cpu[found["slowest"]] == max(cpu[name] for name in ("bm25", "m", "d"))
    # The base keeps 16 float32 of a document, the duplex 6 and its terms.
    assert rows["m"]["bytes_per_document"] >= 64
    kept = [rows[name]["bytes_per_document"] for name in ("bm25", "m", "d")]
    assert rows["together"]["bytes_per_document"] > sum(kept)
    assert run([*flags, "--limit", "2"], tmp_path / "cache") == 0
    assert "bytes a document" in capsys.readouterr().out


def test_no_documents_is_an_error(tmp_path):
    empty = tmp_path / "none.jsonl"
    empty.write_text("")
    with pytest.raises(InvalidInput, match="no documents"):
        run(["--data", str(empty), "--retrievers", "bm25"], tmp_path)
