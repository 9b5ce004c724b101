"""Milliseconds per stage, and the deadline they eat into."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from indexes.errors import DeadlineExceeded

ARRIVED: ContextVar[float | None] = ContextVar("arrived", default=None)
"""When this context's request came, in `time.monotonic` seconds, where it has waited since."""

ON_STAGE: ContextVar[Callable[[str, float, float], None] | None] = ContextVar(
    "on_stage", default=None
)
"""Who is told of each stage of this context's request: its name, begin and end (monotonic)."""


class Stopwatch:
    """Owns one request's clock. `timings_ms` sums what each stage took.

    It runs from the moment the request arrived: a wait for its turn is the stage `queue`, and
    counts against the deadline.
    """

    def __init__(self, timeout_ms: int | None = None) -> None:
        now = time.monotonic()
        self._started = ARRIVED.get() or now
        self.timings_ms: dict[str, float] = {}
        if ARRIVED.get() is not None:
            self._took("queue", self._started, now)
        self._timeout_ms = timeout_ms
        self.deadline = None if timeout_ms is None else self._started + timeout_ms / 1000

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage. Raises `DeadlineExceeded` when it would begin too late."""
        self.check(name)
        started = time.monotonic()
        try:
            yield
        finally:
            self._took(name, started, time.monotonic())

    def check(self, name: str) -> None:
        """Raise `DeadlineExceeded`, naming the stage that could not begin, if time is up."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise DeadlineExceeded(f"the {self._timeout_ms} ms ran out before the stage {name!r}")

    def total(self) -> dict[str, float]:
        """The timings with their `total`."""
        spent = round((time.monotonic() - self._started) * 1000, 3)
        return {**self.timings_ms, "total": spent}

    def _took(self, name: str, started: float, ended: float) -> None:
        spent = (ended - started) * 1000
        self.timings_ms[name] = round(self.timings_ms.get(name, 0.0) + spent, 3)
        told = ON_STAGE.get()
        if told is not None:
            told(name, started, ended)
