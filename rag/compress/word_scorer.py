"""What scores words: a token classifier, or a baseline of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from rag.compress.words import Span

Reduction = Literal["mean", "first"]


class ScoredWords(NamedTuple):
    """A text's words and for each a score in [0, 1]: how much it should be preserved."""

    words: list[Span]
    scores: list[float]


class WordScorer(Protocol):
    """Scores the words of texts, all of them in one go."""

    @property
    def name(self) -> str:
        """What it is called in a reply."""

    def score(self, texts: Sequence[str], question: str, by: Reduction) -> list[ScoredWords]:
        """The texts' words and scores. `question` may be empty, and may be left unread."""
