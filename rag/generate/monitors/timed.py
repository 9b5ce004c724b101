"""Monitors with a clock: how much time is theirs, much of it beside the decoding."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rag.generate.monitors.together import Together

if TYPE_CHECKING:
    import torch


class TimedTogether(Together):
    """`Together`, with the time spent in it."""

    spent_ms = 0.0

    def start(self, prompt_ids: Sequence[int]) -> Any:
        """As `Together` does."""
        with self._timed():
            return super().start(prompt_ids)

    def advance(self, state: Any, token_id: int) -> Any:
        """As `Together` does."""
        with self._timed():
            return super().advance(state, token_id)

    def keep(self, state: Any) -> torch.Tensor | None:
        """As `Together` does."""
        with self._timed():
            return super().keep(state)

    def doubts(self, state: Any) -> torch.Tensor | None:
        """As `Together` does."""
        with self._timed():
            return super().doubts(state)

    def confirms(self, state: Any, token_id: int) -> bool:
        """As `Together` does."""
        with self._timed():
            return super().confirms(state, token_id)

    def likely(self, state: Any) -> list[int]:
        """As `Together` does."""
        with self._timed():
            return super().likely(state)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.spent_ms += (time.perf_counter() - began) * 1000
