"""What scores sentences for a question beside their words: a dense retriever, or a locator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from rag.compress.compression import Passage
from rag.retrievers.retriever import Retriever

if TYPE_CHECKING:
    from rag.gear.locator import Locator, ScoredSentence

LEAST_SHARED = 0.5
"""Of the shorter of two sentences, what must lie in both for them to be taken for one."""


class Place(NamedTuple):
    """`text[start:end]` of passage `hit`: a sentence."""

    hit: int
    start: int
    end: int


class SentenceScorer(Protocol):
    """Scores the sentences of passages for a question, all of them in one go."""

    @property
    def name(self) -> str:
        """What it is called in a reply."""

    def score(
        self, question: str, passages: Sequence[Passage], places: Sequence[Place]
    ) -> list[float]:
        """How well each sentence answers, at least 0; only ratios count."""


class DenseSentences:
    """Cosine of question and sentence by a dense retriever, 0 where it is negative."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self.name = retriever.entry.name

    def score(
        self, question: str, passages: Sequence[Passage], places: Sequence[Place]
    ) -> list[float]:
        """One cosine a sentence."""
        texts = [passages[hit].text[start:end] for hit, start, end in places]
        asked = self._retriever.encode_queries([question])[0].vector.dense
        there = self._retriever.encode_passages(texts, lambda _: None).dense
        if asked is None or there is None:
            raise AssertionError(f"{self.name} is not a dense retriever")
        found: list[float] = np.maximum(there @ asked, 0.0).tolist()
        return found


class LocatedSentences:
    """Shares of a question's attention by GeAR, which is opened when a question is first asked."""

    name = "locator"

    def __init__(self, locator: Callable[[], Locator]) -> None:
        self._locator = locator

    def score(
        self, question: str, passages: Sequence[Passage], places: Sequence[Place]
    ) -> list[float]:
        """The sentence's share within its passage: all of a passage's sum to about 1."""
        documents = [(passage.title, passage.text) for passage in passages]
        located = self._locator().locate(question, documents)
        return [_share(place, located[place.hit]) for place in places]


def _share(place: Place, located: Sequence[ScoredSentence]) -> float:
    """The largest share of what the locator calls a sentence and that is this one, more or less."""
    shares = [0.0]
    for one in located:
        shared = min(place.end, one.end) - max(place.start, one.start)
        if shared > LEAST_SHARED * min(place.end - place.start, one.end - one.start):
            shares.append(one.score)
    return max(shares)
