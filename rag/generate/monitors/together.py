"""Several monitors at once: what all of them allow, the first ones first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, NamedTuple

from rag.generate.constraint import (
    AskingConstraint,
    Constraint,
    DoubtingConstraint,
    LeadingConstraint,
)
from rag.generate.monitors.suggesting import SuggestingMonitor

if TYPE_CHECKING:
    import torch


class _State(NamedTuple):
    n_tokens: int
    states: tuple[Any, ...]


class Together:
    """The intersection as one `rag.generate.constraint.Constraint`; one request's.

    Where a monitor leaves nothing of what those before it allow, it gives way for this one token:
    so the set is never empty unless the first constraint's is, which should be a grammar.
    """

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self._constraints = tuple(constraints)
        self._doubting = [
            (at, one) for at, one in enumerate(constraints) if isinstance(one, DoubtingConstraint)
        ]
        self._suggesting = [
            (at, one) for at, one in enumerate(constraints) if isinstance(one, SuggestingMonitor)
        ]
        self._leading = [
            (at, one) for at, one in enumerate(constraints) if isinstance(one, LeadingConstraint)
        ]
        self.asks = any(one.asks for one in constraints if isinstance(one, AskingConstraint))
        self._doubts: dict[tuple[int, ...], tuple[torch.Tensor, list[torch.Tensor]]] = {}
        self._masked: dict[int, bool] = {}
        self._suggested: dict[int, int] = {}

    def start(self, prompt_ids: Sequence[int]) -> _State:
        """Nothing written yet."""
        return _State(0, tuple(one.start(prompt_ids) for one in self._constraints))

    def advance(self, state: _State, token_id: int) -> _State:
        """All one token further."""
        pairs = zip(self._constraints, state.states, strict=True)
        return _State(state.n_tokens + 1, tuple(one.advance(s, token_id) for one, s in pairs))

    def keep(self, state: _State) -> torch.Tensor | None:
        """What is legal for all that do not have to give way."""
        common: torch.Tensor | None = None
        for one, at in zip(self._constraints, state.states, strict=True):
            keep = one.keep(at)
            if keep is None:
                continue
            both = keep if common is None else common & keep
            if common is None or bool(both.any()):
                common = both
        self._masked[state.n_tokens] = common is not None
        self._suggested[state.n_tokens] = sum(
            one.n_suggested(state.states[at]) for at, one in self._suggesting
        )
        return common

    def doubts(self, state: _State) -> torch.Tensor | None:
        """Tokens that any of them doubts."""
        asked = (one.doubts(state.states[at]) for at, one in self._doubting)
        found = [doubts for doubts in asked if doubts is not None]
        if len(found) < 2:
            return found[0] if found else None
        # Each of them has but a few, which it keeps.
        key = tuple(map(id, found))
        if key not in self._doubts:
            self._doubts[key] = reduce(or_, found), found
        return self._doubts[key][0]

    def confirms(self, state: _State, token_id: int) -> bool:
        """Whether all that doubt the token confirm it."""
        return all(
            one.confirms(state.states[at], token_id)
            for at, one in self._doubting
            if (doubts := one.doubts(state.states[at])) is not None and bool(doubts[token_id])
        )

    def likely(self, state: _State) -> list[int]:
        """What the first that knows says must come next; it may be illegal for another."""
        for at, one in self._leading:
            if found := one.likely(state.states[at]):
                return found
        return []

    def n_masked(self, n_tokens: int) -> int:
        """How many of the first `n_tokens` tokens were chosen among fewer than all."""
        return sum(self._masked.get(at, False) for at in range(n_tokens))

    def n_suggested(self, n_tokens: int) -> int:
        """How many sets of suggestions the first `n_tokens` tokens were held to."""
        return self._suggested.get(n_tokens - 1, 0)
