"""Token Recycling: what the model itself thought best after a token, the last time it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rag.answer import MAX_DRAFT_TOKENS
from rag.generate.distribution import best_ids
from rag.generate.drafter import NO_DRAFT, Draft

if TYPE_CHECKING:
    import torch

MAX_PAIRS = 65_536
"""Pairs remembered at most; then memory starts over."""


class Successors:
    """The best next token after each token and each pair of tokens, as last seen.

    It tells what was asked and answered before: one for each tenant. Safe to share between
    threads: each step is one dict operation.
    """

    def __init__(self) -> None:
        self._after_pair: dict[tuple[int, int], int] = {}
        self._after_token: dict[int, int] = {}

    def learn(self, before: int, token: int, best: int) -> None:
        """The model thought `best` the best after `before`, `token`."""
        if len(self._after_pair) >= MAX_PAIRS:
            self._after_pair.clear()
        self._after_pair[before, token] = best
        self._after_token[token] = best

    def best(self, before: int, token: int) -> tuple[int, int] | None:
        """(token, how many tokens it was found by) or None."""
        best = self._after_pair.get((before, token))
        if best is not None:
            return best, 2
        best = self._after_token.get(token)
        return None if best is None else (best, 1)


class TokenRecycling:
    """Follows the chain of best successors.

    Token Recycling (2408.08696) drafts a tree of the top 8 and verifies it with tree attention.
    The backends have no tree attention and a CPU pays for every node, so this is its one chain of
    top-1, over pairs of tokens where the pair is known. Rows after a rejected token teach too.
    """

    def __init__(self, successors: Successors) -> None:
        self._successors = successors

    def offer(self, prefix: Sequence[int]) -> Draft:
        """The chain, as long as it goes on."""
        before, token = (prefix[-2] if len(prefix) > 1 else -1), prefix[-1]
        found = self._successors.best(before, token)
        if found is None:
            return NO_DRAFT
        source = ("recycle", found[1])
        chain: list[int] = []
        while found is not None and len(chain) < MAX_DRAFT_TOKENS:
            before, token = token, found[0]
            chain.append(token)
            found = self._successors.best(before, token)
        return Draft(source, chain)

    def observe(self, prefix: Sequence[int], draft: Sequence[int], logits: torch.Tensor) -> None:
        """Remember each row's best token, those after rejected ones too."""
        fed = [prefix[-2] if len(prefix) > 1 else -1, prefix[-1], *draft]
        for row, best in enumerate(best_ids(logits)):
            self._successors.learn(fed[row], fed[row + 1], best)
