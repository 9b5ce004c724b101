"""Milliseconds per stage, and the deadline they eat into."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from indexes.errors import DeadlineExceeded


class Stopwatch:
    """Owns one request's clock. `timings_ms` sums what each stage took."""

    def __init__(self, timeout_ms: int | None = None) -> None:
        self.timings_ms: dict[str, float] = {}
        self._started = time.perf_counter()
        self._timeout_ms = timeout_ms
        self.deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage. Raises `DeadlineExceeded` when it would begin too late."""
        self.check(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - started) * 1000
            self.timings_ms[name] = round(self.timings_ms.get(name, 0.0) + spent, 3)

    def check(self, name: str) -> None:
        """Raise `DeadlineExceeded`, naming the stage that could not begin, if time is up."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise DeadlineExceeded(f"the {self._timeout_ms} ms ran out before the stage {name!r}")

    def total(self) -> dict[str, float]:
        """The timings with their `total`."""
        spent = round((time.perf_counter() - self._started) * 1000, 3)
        return {**self.timings_ms, "total": spent}
