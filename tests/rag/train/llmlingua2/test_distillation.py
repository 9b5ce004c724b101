"""A teacher's pairs: pieces of sentences, a file that a kill does not spoil, and training on it."""

from __future__ import annotations

import msgspec
import pytest

from indexes.errors import InvalidInput
from rag.config import Settings
from rag.progress import Silent
from rag.train.llmlingua2 import distillation
from rag.train.llmlingua2.distillation import Pair, distil, pieces, read_pairs
from rag.train.llmlingua2.distilled import read_distilled
from rag.train.llmlingua2.examples import read_examples
from rag.train.llmlingua2.recipe import DistilledSource, LlmLingua2Recipe
from rag.train.recipe import LoopConfig

LINES = [
    f"Sentence {number} has a few words. It is followed by another one." for number in range(5)
]


class Words:
    """A tokenizer of white space."""

    def encode(self, text):
        return text.split()


class Teacher:
    """Stands in for a language model: nothing but its name and its tokenizer is asked for."""

    name = "teacher"
    tokenizer = Words()


@pytest.fixture
def asked(monkeypatch):
    """The pieces that a teacher who drops every second word was asked for."""
    seen = []

    def compress(model, piece, seed):
        seen.append((piece, seed))
        return " ".join(piece.split()[::2])

    monkeypatch.setattr(distillation, "_compress", compress)
    return seen


def test_pieces_end_with_sentences():
    text = "\n".join(LINES)
    found = list(pieces(text, Words(), 14))
    assert all(len(piece.split()) <= 14 and piece.endswith(".") for piece in found)
    assert " ".join(" ".join(found).split()) == " ".join(text.split())
    long = "word " * 30 + "end. Short one."
    assert list(pieces(long, Words(), 14)) == ["word " * 30 + "end.", "Short one."]
    assert list(pieces(" \n", Words())) == []


def test_a_run_goes_on_behind_the_last_whole_line(tmp_path, asked):
    out = tmp_path / "pairs.jsonl"
    assert distil(LINES, Teacher(), out, Silent(), n_pieces=3, seed=4) == 3
    whole = out.read_bytes()
    out.write_bytes(whole[:-9])
    assert len(read_pairs(out)) == 2
    assert distil(LINES, Teacher(), out, Silent(), n_pieces=3, seed=4) == 1
    assert out.read_bytes() == whole
    assert distil(LINES, Teacher(), out, Silent(), n_pieces=4) == 1
    assert [piece for piece, _ in asked] == [*LINES[:3], LINES[2], LINES[3]]
    assert read_pairs(out)[0] == Pair(LINES[0], " ".join(LINES[0].split()[::2]), "teacher")


def test_pairs_become_examples_without_a_question(tmp_path, asked):
    distil(LINES, Teacher(), tmp_path / "pairs.jsonl", Silent(), n_pieces=5)
    source = DistilledSource("teacher", "pairs.jsonl", drop_variation=0.0, drop_gap=0.2)
    recipe = LlmLingua2Recipe("any", LoopConfig(n_steps=1, batch_size=2), distilled=(source,))
    found = read_examples(recipe, tmp_path, Settings(), Silent())
    (only,) = found.sets
    assert (only.name, only.numbers, found.held_out) == ("teacher", [0, 1, 2, 3], [])
    (example,) = only.examples(0, None)
    assert example.question == ""
    kept = [example.text[start:end] for start, end in example.preserve]
    assert kept == ["Sentence", "has", "few", "It", "followed", "another"]
    assert found.order(recipe).batch(0)
    with pytest.raises(InvalidInput, match=r"none\.jsonl"):
        read_distilled(tmp_path, DistilledSource("none", "none.jsonl"))


def test_a_recipe_needs_a_set_and_names_that_differ():
    loop = LoopConfig(n_steps=1)
    with pytest.raises(ValueError, match="at least one set"):
        LlmLingua2Recipe("any", loop)
    twice = DistilledSource("one", "a"), DistilledSource("one", "b")
    with pytest.raises(ValueError, match="one name"):
        LlmLingua2Recipe("any", loop, distilled=twice)
    with pytest.raises(msgspec.ValidationError, match="file"):
        msgspec.convert({"name": "one"}, DistilledSource)
