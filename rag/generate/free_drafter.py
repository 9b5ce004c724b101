"""Drafters that cost next to nothing: at each step the one that promises most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from rag.generate.drafter import NO_DRAFT, Allowance, Draft

if TYPE_CHECKING:
    import torch


class Copier(Protocol):
    """Finds what came next where it has seen the like. It serves one request."""

    def offer(self, prefix: Sequence[int]) -> Draft:
        """The most it would draft after `prefix`, with q one-hot; prefixes only grow."""

    def observe(self, prefix: Sequence[int], draft: Sequence[int], logits: torch.Tensor) -> None:
        """See the target's logits: row i, `[vocabulary]`, follows `prefix + draft[:i]`."""


class FreeDrafter:
    """Asks every copier and takes the best offer, as far as it pays."""

    def __init__(self, copiers: Sequence[Copier]) -> None:
        self._copiers = tuple(copiers)

    def propose(self, prefix: Sequence[int], allowance: Allowance) -> Draft:
        """The offer with the greatest expected gain, cut to what the controller allows."""
        offers = [copier.offer(prefix) for copier in self._copiers]
        offers = [offer for offer in offers if offer.token_ids]
        if not offers:
            return NO_DRAFT
        best = offers[0]
        if len(offers) > 1:
            best = max(offers, key=lambda one: allowance.gain(one.source, len(one.token_ids)))
        n_tokens = allowance.tokens(best.source, len(best.token_ids))
        return best._replace(token_ids=best.token_ids[:n_tokens])

    def observe(self, prefix: Sequence[int], draft: Sequence[int], logits: torch.Tensor) -> None:
        """Let every copier see."""
        for copier in self._copiers:
            copier.observe(prefix, draft, logits)
