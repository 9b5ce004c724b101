"""Progress of a build that is told to the disk, and that stops when somebody wants it to."""

from __future__ import annotations

import time
from pathlib import Path

from indexes.errors import Cancelled
from rag.jobs import shelf
from rag.jobs.job import Progress, Underway

TELL_S = 0.5
"""How often at most the disk is told, and looked at for a wish to cancel."""


class ToldProgress:
    """Owns what is said of one running job. Every method raises `Cancelled` when it is to stop."""

    def __init__(self, root: Path, job_id: str) -> None:
        self._root, self._id = root, job_id
        self._said = Underway(shelf.now(), shelf.attempts(root, job_id) + 1)
        self._note = ""
        self._progress: Progress | None = None
        self._told_at = 0.0
        self._tell(at_once=True)

    @property
    def attempts(self) -> int:
        """How many workers have begun this job, this one included."""
        return self._said.attempts

    def note(self, text: str) -> None:
        """Say what is being done now."""
        self._note = text
        self._tell(at_once=True)

    def start(self, title: str, total: int | None, unit: str) -> None:
        """Begin to count."""
        self._progress = Progress(title, 0, total, unit)
        self._tell(at_once=True)

    def advance(self, amount: int) -> None:
        """Count on."""
        bar = self._progress
        if bar is not None:
            self._progress = Progress(bar.title, bar.done + amount, bar.total, bar.unit)
        self._tell(at_once=False)

    def finish(self) -> None:
        """End the count."""
        self._tell(at_once=True)

    def _tell(self, *, at_once: bool) -> None:
        if not at_once and time.monotonic() - self._told_at < TELL_S:
            return
        if shelf.wants_cancel(self._root, self._id):
            raise Cancelled("the build was cancelled")
        self._told_at = time.monotonic()
        said = Underway(self._said.started, self._said.attempts, self._note, self._progress)
        shelf.tell(self._root, self._id, said)
