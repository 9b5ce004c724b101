"""`rag compress` as a script sees it."""

from __future__ import annotations

import io
import json
import sys

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from rag.cli.main import main

TEXT = "Penicillin kills bacteria.\r\nIt was found by Fleming 🧫 in 1928. It rained all day.\n"


@pytest.fixture
def compress(tmp_path, monkeypatch, capsys):
    """Runs the command over a text, with a generator of which there is only a tokenizer."""
    from indexes.errors import ModelError
    from rag.models.resolver import ResolvedModel

    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.save(str(tmp_path / "tokenizer.json"))

    def resolve(name, cache, **_):
        if name != "words":
            raise ModelError(f"no {name}")
        return ResolvedModel("words", "generator", tmp_path, "r", "s", "", "folder")

    monkeypatch.setattr("rag.models.resolver.resolve", resolve)
    monkeypatch.setattr("rag.compress.opening.resolve", resolve)
    monkeypatch.setenv("RAG_GENERATOR", "words")
    monkeypatch.setenv("RAG_COMPRESSOR", "none")
    monkeypatch.setenv("RAG_SENTENCE_SCORER", "none")

    def run(*flags, text=None):
        content = TEXT.encode() if text is None else text
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        code = main(["compress", *flags])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_json_maps_every_stretch_back(compress):
    code, out, err = compress("--json", "--query", "Who found penicillin?", "--rate", "0.6")
    found = json.loads(out)
    assert code == 0
    assert err == ""
    assert {"text", "ratio", "spans"} <= found.keys()
    for span in found["spans"]:
        source = TEXT[span["source_start"] : span["source_end"]]
        assert found["text"][span["start"] : span["end"]] == source
    assert found["spans"]
    assert found["ratio"] == pytest.approx(found["original_tokens"] / found["kept_tokens"], 1e-3)


def test_text_to_stdout_and_figures_to_stderr(compress):
    code, out, err = compress("--target-tokens", "8", "--query", "Fleming", "--keep-digits")
    assert code == 0
    assert "Fleming" in out
    assert "1928" in out
    assert out.endswith("\n")
    assert "8 of 18 tokens kept, by sentences" in err
    assert "warning" not in err
    assert "no token classifier" in compress("--words", "--query", "Fleming")[2]
    assert "no token classifier" in compress()[2]
    code, out, err = compress("--rate", "1", "--no-words")
    assert out == TEXT
    assert "warning" not in err


def test_a_forced_line_break(compress):
    _, out, _ = compress("--force", "\\n", "--rate", "0.6", "--query", "rained bacteria")
    assert "\n" in out.strip()


@pytest.mark.parametrize(
    ("flags", "text", "code", "said"),
    [
        (["--rate", "1.5"], b"a", 2, "rate"),
        (["--model", "missing"], b"a", 1, "no missing"),
        ([], b"\xff", 1, "not UTF-8"),
    ],
)
def test_errors_are_one_sentence_and_a_code(compress, flags, text, code, said):
    found, out, err = compress(*flags, text=text)
    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
