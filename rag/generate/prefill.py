"""Feeding tokens to a context in pieces, between which a request may be called off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from indexes.errors import DeadlineExceeded
from rag.generate.language_model import Context

if TYPE_CHECKING:
    import torch

PREFILL_TOKENS = 512
"""A prompt is fed in pieces of this many tokens: cancellation and the deadline act in between."""


class Watch:
    """Tells at each step whether the request is still wanted."""

    def __init__(
        self, cancel: threading.Event | None, deadline: float | None, clock: Callable[[], float]
    ) -> None:
        self._cancel = cancel
        self._deadline = deadline
        self.clock = clock

    def cancelled(self) -> bool:
        """Whether the request was cancelled; raises `DeadlineExceeded` past the deadline."""
        if self._cancel is not None and self._cancel.is_set():
            return True
        if self._deadline is not None and self.clock() >= self._deadline:
            raise DeadlineExceeded("the time ran out while the answer was being written")
        return False


def n_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning of two texts that differ near their end only."""
    length = min(len(one), len(other))
    while one[:length] != other[:length]:
        length -= 1
    return length


def feed(context: Context, token_ids: Sequence[int], watch: Watch) -> torch.Tensor | None:
    """Append tokens; logits `[vocabulary]` after the last of them, None when cancelled."""
    logits = None
    for start in range(0, len(token_ids), PREFILL_TOKENS):
        if watch.cancelled():
            return None
        piece = token_ids[start : start + PREFILL_TOKENS]
        logits = context.forward(piece, last_only=True)[-1]
    return logits
