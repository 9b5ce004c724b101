"""Constraints on the text: which tokens may come next, with one immutable state a position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Constraint(Protocol):
    """A grammar, a monitor or a list of bans, as an automaton over tokens.

    States are immutable, so that those of a draft can be thrown away.
    """

    def start(self, prompt_ids: Sequence[int]) -> Any:
        """The state before the first generated token."""

    def advance(self, state: Any, token_id: int) -> Any:
        """The state after one more token, which was legal in `state`."""

    def keep(self, state: Any) -> torch.Tensor | None:
        """Legal tokens as bool `[vocabulary]`, on the model's device; None: all of them."""


class ConstraintTrack:
    """The states of all constraints after 0, 1, ... generated tokens; rollback is truncation."""

    def __init__(self, constraints: Sequence[Constraint], prompt_ids: Sequence[int]) -> None:
        self._constraints = tuple(constraints)
        self._states = [tuple(constraint.start(prompt_ids) for constraint in self._constraints)]
        self._keeps: list[torch.Tensor | None] = []

    @property
    def n_tokens(self) -> int:
        """Generated tokens seen, drafted ones included."""
        return len(self._states) - 1

    def push(self, token_id: int) -> None:
        """Take one more token, committed or drafted."""
        states = zip(self._constraints, self._states[-1], strict=True)
        self._states.append(tuple(one.advance(state, token_id) for one, state in states))

    def truncate(self, n_tokens: int) -> None:
        """Forget every token after the first `n_tokens`."""
        del self._states[n_tokens + 1 :]
        del self._keeps[n_tokens + 1 :]

    def keep(self, n_tokens: int) -> torch.Tensor | None:
        """What every constraint allows after `n_tokens` tokens; computed once a position."""
        while len(self._keeps) <= n_tokens:
            self._keeps.append(self._intersection(len(self._keeps)))
        return self._keeps[n_tokens]

    def allows(self, token_id: int) -> bool:
        """Whether `token_id` may come next."""
        keep = self.keep(self.n_tokens)
        return keep is None or bool(keep[token_id])

    def _intersection(self, n_tokens: int) -> torch.Tensor | None:
        common: torch.Tensor | None = None
        for constraint, state in zip(self._constraints, self._states[n_tokens], strict=True):
            keep = constraint.keep(state)
            if keep is not None:
                common = keep if common is None else common & keep
        return common
