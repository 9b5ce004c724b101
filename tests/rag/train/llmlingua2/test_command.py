"""`rag train llmlingua2` from the command line to a compressor that uses it."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from rag.cli.main import main

pytestmark = pytest.mark.slow


def test_train_then_compress(recipe_text, data, encoder, tmp_path, monkeypatch, capsys):
    text = recipe_text.replace("n_steps = 60", "n_steps = 2").replace("measure_every = 20", "")
    (tmp_path / "toy.toml").write_text(text)
    flags = ["--cache", str(tmp_path / "cache"), "--threads", "1"]
    train = ["train", "llmlingua2", "--recipe", str(tmp_path / "toy.toml")]
    assert main([*train, "--data", str(data), "--out", str(tmp_path / "out"), *flags]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    generator = shutil.copytree(encoder, tmp_path / "generator")
    monkeypatch.setenv("RAG_GENERATOR", str(generator))
    monkeypatch.setenv("RAG_SENTENCE_SCORER", "none")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"cat dog . oak tree stone .")))
    compress = ["compress", "--model", str(folder), "--json", "--explain"]
    compress += ["--query", "cat", "--words"]
    assert main([*compress, *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["by"] == ["sentences", "model"]
    assert len(found["words"]) == 7
    assert all(0 < word["preserve"] < 1 for word in found["words"])
    assert found["kept_tokens"] <= 3
