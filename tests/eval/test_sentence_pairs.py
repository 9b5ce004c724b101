"""Sentences shortened by people: what is read, what counts as the same words, and how few."""

from __future__ import annotations

import json

import pytest

from eval.compressors import RandomWords
from eval.sentence_pairs import SentencePair, kept_f1, measure_pairs, read_sentence_pairs
from indexes.errors import InvalidInput
from rag.compress.compressor import Compressor
from rag.progress import Silent

TEXT = "The old dog, which barked at noon, was taken to the river by a boy."
SHORT = "The dog was taken to the river."


class Spaces:
    """Tokens are what white space parts."""

    def encode(self, text):
        return text.split()


class Human:
    """Scores the words of one reference 1."""

    name = "human"

    def score(self, texts, question, by):
        (scored,) = RandomWords().score(texts, question, by)
        wanted = SHORT.rstrip(".").split()
        flags = []
        for start, end in scored.words:
            kept = bool(wanted) and TEXT[start:end] == wanted[0]
            wanted = wanted[1:] if kept else wanted
            flags.append(float(kept))
        return [scored._replace(scores=flags)]


def test_the_same_words_are_one_and_other_words_none():
    assert kept_f1(TEXT, SHORT, SHORT) == kept_f1(TEXT, "", "") == 1
    assert kept_f1(TEXT, "", SHORT) == kept_f1(TEXT, "old boy", SHORT) == 0
    assert kept_f1(TEXT, "dog was", "dog , was taken") == pytest.approx(4 / 5)


def test_a_compressor_that_keeps_the_words_of_the_reference_is_right():
    pairs = [SentencePair("a", TEXT, [SHORT])]
    (row,) = measure_pairs(Compressor(Human()), Spaces(), pairs, "words", Silent())
    assert row.measures["kept_f1"] == 1
    assert row.measures["rate"] == 7 / 15
    (other,) = measure_pairs(Compressor(RandomWords()), Spaces(), pairs, "random", Silent())
    assert other.measures["kept_f1"] < 1
    assert other.measures["rate"] <= 7 / 15


def test_files(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"id": "a", "text": TEXT, "summaries": [SHORT]}) + "\n")
    assert read_sentence_pairs(path) == [SentencePair("a", TEXT, [SHORT])]
    path.write_text(json.dumps({"id": "a", "text": TEXT, "summaries": []}) + "\n")
    with pytest.raises(InvalidInput, match="no sentence"):
        read_sentence_pairs(path)
