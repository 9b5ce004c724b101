"""A monitor that is one automaton over bytes, made before the text begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rag.generate.monitors.automaton import DEAD, ByteAutomaton
from rag.generate.monitors.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

START = 0


class ByteMonitor:
    """`rag.generate.constraint.Constraint` of a `ByteAutomaton`; its state is the automaton's.

    A mask is worked out once a state. Where no token is legal the monitor gives way, and after a
    token that was not legal, which can only be one that another constraint wanted, it begins anew.
    """

    def __init__(self, automaton: ByteAutomaton, vocabulary: Vocabulary) -> None:
        self._automaton = automaton
        self._vocabulary = vocabulary
        self._masks: dict[int, torch.Tensor | None] = {}

    def start(self, _prompt_ids: Sequence[int]) -> int:
        """Nothing written yet."""
        return START

    def advance(self, state: int, token_id: int) -> int:
        """The state after the token's bytes."""
        reached = self._automaton.read(state, self._vocabulary.spelling(token_id))
        return START if reached == DEAD else reached

    def keep(self, state: int) -> torch.Tensor | None:
        """Tokens that can be read whole; None: all."""
        if state not in self._masks:
            legal = self._vocabulary.trie.legal(self._automaton, state)
            mask = self._vocabulary.mask(legal, may_end=self._automaton.accepts(state))
            self._masks[state] = mask if mask is not None and bool(mask.any()) else None
        return self._masks[state]
