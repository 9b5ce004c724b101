"""Telling a person how far along a long operation is, without touching the terminal."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Where progress goes. The command line draws bars; a server or a test may listen quietly."""

    def note(self, text: str) -> None:
        """Say what is being done now, in one line."""

    def start(self, title: str, total: int | None, unit: str) -> None:
        """Begin a bar of `total` units (None: unknown); an unfinished one ends."""

    def advance(self, amount: int) -> None:
        """Move the bar on."""

    def finish(self) -> None:
        """End the bar."""


class Silent:
    """Progress for nobody."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def start(self, title: str, total: int | None, unit: str) -> None:
        """Draw nothing."""

    def advance(self, amount: int) -> None:
        """Draw nothing."""

    def finish(self) -> None:
        """Draw nothing."""


class Deferred:
    """Bytes that were read but not worked on yet: the bar moves as the work on them is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bytes = 0
        self._shown = 0
        self._units = 1.0
        self._done = 0.0

    def read(self, n_bytes: int) -> None:
        """More bytes await their work."""
        self._bytes += n_bytes

    def expect(self, units: float) -> None:
        """The work on the bytes read so far has this many units."""
        self._units, self._done, self._shown = max(units, 1.0), 0.0, 0

    def work(self, n: int, cost: float = 1.0) -> None:
        """`n` pieces of work, each of `cost` units, are done: show their share of the bytes."""
        self._done += n * cost
        share = int(self._bytes * min(1.0, self._done / self._units))
        self._progress.advance(share - self._shown)
        self._shown = share

    def settle(self) -> None:
        """The work on the bytes read so far is over."""
        self._progress.advance(self._bytes - self._shown)
        self._bytes = self._shown = 0
