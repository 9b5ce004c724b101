"""Prompt lookup: what followed the last words before, in the evidence or in the text itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rag.answer import MAX_DRAFT_TOKENS
from rag.generate.drafter import NO_DRAFT, Draft, match_class

if TYPE_CHECKING:
    import torch

MAX_MATCH = 16
"""Agreement is not followed further back than this."""

MAX_PLACES = 64
"""The most recent places of a token that are compared."""


class PromptLookup:
    """Copies what stands after the place that agrees longest with the end of the prefix.

    Prompt lookup decoding (Saxena 2023), with the longest agreement for a choice among matches;
    of equally long ones the latest.
    """

    def __init__(self) -> None:
        self._places: dict[int, list[int]] = {}
        self._n_seen = 0

    def offer(self, prefix: Sequence[int]) -> Draft:
        """The longest match's continuation."""
        self._learn(prefix)
        end = len(prefix) - 1
        length, place = 0, -1
        for at in reversed(self._places.get(prefix[end], [])[-MAX_PLACES:]):
            agreed = _agreement(prefix, at, end)
            if agreed > length:
                length, place = agreed, at
            if agreed == MAX_MATCH:
                break
        if place < 0:
            return NO_DRAFT
        # The copy may run into itself: what repeats with a short period is drafted at full length.
        period = end - place
        found = [prefix[place + 1 + n % period] for n in range(MAX_DRAFT_TOKENS)]
        return Draft(("lookup", match_class(length)), found)

    def observe(self, prefix: Sequence[int], draft: Sequence[int], logits: torch.Tensor) -> None:
        """Nothing to learn from logits."""

    def _learn(self, prefix: Sequence[int]) -> None:
        """Note where each token stands, but for the last, which nothing follows yet."""
        for at in range(self._n_seen, len(prefix) - 1):
            self._places.setdefault(prefix[at], []).append(at)
        self._n_seen = max(self._n_seen, len(prefix) - 1)


def _agreement(prefix: Sequence[int], at: int, end: int) -> int:
    """How many tokens up to `at` are those up to `end`, at most MAX_MATCH."""
    n_most = min(MAX_MATCH, at + 1)
    for length in range(1, n_most):
        if prefix[at - length] != prefix[end - length]:
            return length
    return n_most
