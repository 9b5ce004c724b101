"""Sentences scored by a retriever: cosines, none below 0, and what may be configured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from indexes.errors import UsageError
from indexes.manifest import RetrieverEntry
from indexes.representation import PassageVectors, QueryVector
from rag.compress.compression import Passage
from rag.compress.opening import open_compressor
from rag.compress.relevance import sentences_of
from rag.compress.sentence_scorer import DenseSentences, Place
from rag.config import Settings
from rag.retrievers.retriever import EncodedQuery

TEXT = "A cat sleeps. A dog barks. A cat and a dog meet. Nothing."


class Animals:
    """An encoder of two dimensions: cats against dogs, and how many there are."""

    entry = RetrieverEntry(name="animals", kind="dense", parts=["dense"])

    def _vector(self, text):
        cats, dogs = float("cat" in text), float("dog" in text)
        vector = np.array([cats - dogs, cats + dogs], dtype=np.float32)
        return vector / max(1.0, float(np.linalg.norm(vector)))

    def encode_queries(self, queries):
        return [EncodedQuery(QueryVector(dense=self._vector(query))) for query in queries]

    def encode_passages(self, texts, on_done):
        return PassageVectors(dense=np.stack([self._vector(text) for text in texts]))


def test_cosines_of_the_sentences():
    ends = [TEXT.index(".", at) + 1 for at in (0, 14, 28, 50)]
    places = [Place(0, start, end) for start, end in zip([0, 14, 27, 49], ends, strict=True)]
    found = DenseSentences(Animals()).score("a cat?", [Passage(TEXT)], places)
    root = 2**-0.5
    assert found == pytest.approx([1, 0, root, 0], abs=1e-6)


def test_the_scorer_adds_to_what_the_words_say():
    class Dogs:
        name = "dogs"

        def score(self, question, passages, places):
            return [float("dog barks" in passages[hit].text[a:b]) for hit, a, b in places]

    flags = {"by_question": True, "by_passage": False}
    plain = sentences_of([Passage(TEXT)], "cat", **flags)
    scored = sentences_of([Passage(TEXT)], "cat", **flags, scorer=Dogs())
    assert plain[1].relevance < plain[0].relevance
    assert scored[1].relevance == max(one.relevance for one in scored)
    assert sentences_of([Passage(TEXT)], " ", **flags, scorer=Dogs()) == sentences_of(
        [Passage(TEXT)], " ", **flags
    )


def test_a_sparse_retriever_scores_no_sentences(tmp_path: Path):
    settings = Settings(root=tmp_path, cache=tmp_path, compressor="none", sentence_scorer="bm25")
    with pytest.raises(UsageError, match="no dense retriever"):
        open_compressor(settings)
