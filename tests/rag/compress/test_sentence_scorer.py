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
from rag.compress.sentence_scorer import DenseSentences, LocatedSentences, Place
from rag.config import Settings
from rag.gear.locator import ScoredSentence
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


def test_a_locator_is_opened_once_asked_and_its_sentences_may_be_cut_otherwise():
    opened = []

    class Cuts:
        """It takes the first two sentences for one and does not see the last."""

        def locate(self, question, documents):
            opened.append(question)
            assert documents == [("Pets", TEXT)]
            return [[ScoredSentence(0, 26, 0.7), ScoredSentence(27, 48, 0.3)]]

    scorer = LocatedSentences(Cuts)
    assert not opened
    places = [Place(0, 0, 13), Place(0, 14, 26), Place(0, 27, 48), Place(0, 49, 57)]
    assert scorer.score("a cat?", [Passage(TEXT, title="Pets")], places) == [0.7, 0.7, 0.3, 0.0]
    assert opened == ["a cat?"]


@pytest.mark.slow
def test_the_shipped_locator_finds_the_sentence_that_the_words_do_not():
    """The question shares "Berlin" with the wrong sentence and no word with the right one."""
    text = (
        "Berlin has many museums and theatres. Ms Weber took office as mayor in 2001. "
        "The trams run until midnight."
    )
    settings = Settings(compressor="none")
    compressor = open_compressor(settings)
    assert compressor.sentences is not None
    question = "Since when has Ms Weber governed Berlin?"
    places = [Place(0, 0, 37), Place(0, 38, 76), Place(0, 77, 106)]
    shares = compressor.sentences.score(question, [Passage(text)], places)
    assert shares[1] == max(shares)
    assert sum(shares) == pytest.approx(1, abs=1e-5)
