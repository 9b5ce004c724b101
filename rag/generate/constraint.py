"""Constraints on the text: which tokens may come next, with one immutable state a position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch

_Doubt: TypeAlias = "tuple[DoubtingConstraint, Any, torch.Tensor]"
"""Who doubts, in which state, which tokens: bool `[vocabulary]`."""

DOUBT_FLOOR = 1e-3
"""A doubtful token that the model gives less than this is not worth asking for, and forbidden."""


class Constraint(Protocol):
    """A grammar, a monitor or a list of bans, as an automaton over tokens.

    States are immutable, so that those of a draft can be thrown away.
    """

    def start(self, prompt_ids: Sequence[int]) -> Any:
        """The state before the first generated token."""

    def advance(self, state: Any, token_id: int) -> Any:
        """The state after one more token, which was legal in `state`."""

    def keep(self, state: Any) -> torch.Tensor | None:
        """Legal tokens as bool `[vocabulary]`, on the CPU; None: all of them."""


@runtime_checkable
class DoubtingConstraint(Constraint, Protocol):
    """A constraint for which some tokens are dear to judge: it is asked only for likely ones."""

    def doubts(self, state: Any) -> torch.Tensor | None:
        """Tokens, as bool `[vocabulary]`, of which those in `keep` are legal only if confirmed."""

    def confirms(self, state: Any, token_id: int) -> bool:
        """Whether a doubtful token is legal."""


@runtime_checkable
class LeadingConstraint(Constraint, Protocol):
    """A constraint that knows what must come next."""

    def likely(self, state: Any) -> list[int]:
        """Tokens to draft: each legal after those before it; others may be legal too."""


@runtime_checkable
class AskingConstraint(Constraint, Protocol):
    """A constraint that may have to wait for somebody else's answer.

    It is called in one thread at a time, which need not be the one that decodes.
    """

    @property
    def asks(self) -> bool:
        """Whether it ever does."""


class ConstraintTrack:
    """The states of all constraints after 0, 1, ... generated tokens; rollback is truncation."""

    def __init__(self, constraints: Sequence[Constraint], prompt_ids: Sequence[int]) -> None:
        self._constraints = tuple(constraints)
        # Whether an object fits a protocol takes long to say.
        self._doubting = [
            (at, one) for at, one in enumerate(constraints) if isinstance(one, DoubtingConstraint)
        ]
        self._states = [tuple(constraint.start(prompt_ids) for constraint in self._constraints)]
        self._keeps: list[torch.Tensor | None] = []
        self._doubted: dict[int, list[_Doubt]] = {}

    @property
    def asks(self) -> bool:
        """Whether any constraint may have to wait for an answer."""
        return any(one.asks for one in self._constraints if isinstance(one, AskingConstraint))

    @property
    def n_tokens(self) -> int:
        """Generated tokens seen, drafted ones included."""
        return len(self._states) - 1

    def push(self, token_id: int) -> None:
        """Take one more token, committed or drafted."""
        states = zip(self._constraints, self._states[-1], strict=True)
        self._states.append(tuple(one.advance(state, token_id) for one, state in states))

    def follow(self, n_tokens: int, token_ids: Sequence[int]) -> None:
        """Forget every token after the first `n_tokens`, and take these."""
        self.truncate(n_tokens)
        for token_id in token_ids:
            self.push(token_id)

    def truncate(self, n_tokens: int) -> None:
        """Forget every token after the first `n_tokens`."""
        for at in range(n_tokens + 1, len(self._states)):
            self._doubted.pop(at, None)
        del self._states[n_tokens + 1 :]
        del self._keeps[n_tokens + 1 :]

    def prepare(self) -> None:
        """Work out what may come after the last token, as far as no scores are needed for it."""
        self.keep(self.n_tokens)
        self._doubts(self.n_tokens)

    def keep(self, n_tokens: int) -> torch.Tensor | None:
        """What every constraint allows after `n_tokens` tokens; computed once a position."""
        while len(self._keeps) <= n_tokens:
            self._keeps.append(self._intersection(len(self._keeps)))
        return self._keeps[n_tokens]

    def best(self, n_tokens: int, scores: torch.Tensor) -> int | None:
        """The best token by `scores`, `[vocabulary]`, where no doubt has to be settled to know it.

        It is that of `settled`, in a tenth of the time. None where the best one is doubtful, or is
        no token at all.
        """
        keep = self.keep(n_tokens)
        values = scores.float().cpu().numpy()
        if keep is not None:
            values = np.where(keep.numpy(), values, np.float32(-math.inf))
        token_id = int(values.argmax())
        if not math.isfinite(values[token_id]):
            return None
        doubtful = any(bool(found[token_id]) for _, _, found in self._doubts(n_tokens))
        return None if doubtful else token_id

    def settled(
        self, n_tokens: int, scores: torch.Tensor, *, best_only: bool = False
    ) -> torch.Tensor | None:
        """`keep` with every doubt settled for the model's `scores`, `[vocabulary]`.

        A doubtful token of a probability of `DOUBT_FLOOR` or more is legal when it is confirmed,
        one of less is not. The scores are a function of the prefix, so this is one too. Where that
        leaves nothing, the doubts are dropped. With `best_only` nothing is asked that cannot change
        which token is the best: the best one is right, and others may be missing.
        """
        keep = self.keep(n_tokens)
        doubts = [found for _, _, found in self._doubts(n_tokens)]
        if not doubts:
            return keep
        doubtful = reduce(or_, doubts)
        legal = ~doubtful if keep is None else keep & ~doubtful
        scores = scores.cpu()
        masked = scores if keep is None else scores.masked_fill(~keep, -math.inf)
        likely = doubtful & (masked.softmax(-1) >= DOUBT_FLOOR)
        asked = likely.nonzero()[:, 0]
        if best_only:
            asked = asked[scores[asked].argsort(descending=True, stable=True)]
            best = scores.masked_fill(~legal, -math.inf).max()
            asked = asked[scores[asked] >= best]
        for token_id in asked.tolist():
            legal[token_id] = self._confirmed(n_tokens, token_id)
            if best_only and legal[token_id]:
                break
        return legal if bool(legal.any()) else keep

    def allows(self, token_id: int) -> bool:
        """Whether `token_id` may come next."""
        keep = self.keep(self.n_tokens)
        if keep is not None and not bool(keep[token_id]):
            return False
        return self._confirmed(self.n_tokens, token_id)

    def forced(self) -> list[int]:
        """What must come next, as far as it is known: the one legal token, or likely ones."""
        keep = self.keep(self.n_tokens)
        if keep is None:
            return []
        if int(keep.sum()) == 1:
            return [int(keep.nonzero()[0, 0])]
        for constraint, state in zip(self._constraints, self._states[-1], strict=True):
            if isinstance(constraint, LeadingConstraint) and (found := constraint.likely(state)):
                return found
        return []

    def _doubts(self, n_tokens: int) -> list[_Doubt]:
        """What the constraints doubt after `n_tokens` tokens; computed once a position."""
        if n_tokens not in self._doubted:
            states = self._states[n_tokens]
            asked = ((one, states[at], one.doubts(states[at])) for at, one in self._doubting)
            self._doubted[n_tokens] = [
                (one, state, found) for one, state, found in asked if found is not None
            ]
        return self._doubted[n_tokens]

    def _confirmed(self, n_tokens: int, token_id: int) -> bool:
        return all(
            constraint.confirms(state, token_id)
            for constraint, state, found in self._doubts(n_tokens)
            if bool(found[token_id])
        )

    def _intersection(self, n_tokens: int) -> torch.Tensor | None:
        common: torch.Tensor | None = None
        for constraint, state in zip(self._constraints, self._states[n_tokens], strict=True):
            keep = constraint.keep(state)
            if keep is not None:
                common = keep if common is None else common & keep
        return common
