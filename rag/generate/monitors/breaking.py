"""Tokens that a breaker calls a mistake are not taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rag.generate.monitors.monitor import Breaker, Foreseeing
from rag.generate.monitors.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch


class BreakingMonitor:
    """A `Breaker` as `rag.generate.constraint.DoubtingConstraint`; its state is what was generated.

    `before` is what stands before it. All tokens with a closer in them are doubts.
    """

    asks = True

    def __init__(self, breaker: Breaker, vocabulary: Vocabulary, before: str = "") -> None:
        self._breaker = breaker
        self._vocabulary = vocabulary
        self._before = before
        self._foreseeing = breaker if isinstance(breaker, Foreseeing) else None
        self._broken: dict[tuple[bytes, str], bool] = {}

    def start(self, _prompt_ids: Sequence[int]) -> bytes:
        """Nothing written yet."""
        return b""

    def advance(self, state: bytes, token_id: int) -> bytes:
        """With the token."""
        state += self._vocabulary.spelling(token_id)
        if self._foreseeing is not None:
            self._foreseeing.foresee(self._text(state))
        return state

    def keep(self, _state: bytes) -> torch.Tensor | None:
        """Nothing is known to be wrong before it is asked for."""
        return None

    def doubts(self, state: bytes) -> torch.Tensor | None:
        """Tokens with a character that may be a mistake."""
        return self._vocabulary.containing(self._closers(state), at_end=True)

    def confirms(self, state: bytes, token_id: int) -> bool:
        """Whether no character of the token is a mistake."""
        said = self._vocabulary.spelling(token_id)
        for at, byte in enumerate(said):
            text = state + said[:at]
            if byte in self._closers(text):
                ahead = said[at + 1 :].decode(errors="replace")
                if self._is_broken(text + bytes([byte]), ahead):
                    return False
        return True

    def _closers(self, generated: bytes) -> bytes:
        return self._breaker.closers(self._text(generated))

    def _is_broken(self, generated: bytes, ahead: str) -> bool:
        key = generated, ahead
        if key not in self._broken:
            self._broken[key] = self._breaker.breaks(self._text(generated), ahead)
        return self._broken[key]

    def _text(self, generated: bytes) -> str:
        return self._before + generated.decode(errors="replace")
