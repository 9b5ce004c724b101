"""What scores sentences for a question beside their words: a dense retriever, or a locator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from rag.compress.compression import Passage
from rag.retrievers.retriever import Retriever


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
