"""Where builds are ordered, asked after and cancelled; keeps a worker at them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import uuid

import msgspec

from indexes.errors import Conflict, StorageFull
from indexes.files import is_full
from indexes.library import index_folder, read_aliases
from rag.config import Settings
from rag.jobs import shelf
from rag.jobs.inputs import input_path
from rag.jobs.job import ENDED, BuildOrder, Job, check_order

LOG = "worker.log"


class Desk:
    """Owns the worker process that it started. Safe for threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._worker: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def submit(self, index: str, build: BuildOrder, key: str = "") -> Job:
        """Order a build; with the key of an earlier one, that one.

        Raises `UsageError` for what no build could do, `Conflict` for an alias, `StorageFull`, and
        `InvalidInput` when the key was used for another build.
        """
        check_order(build)
        root = self._settings.root
        index_folder(root, index)
        for name in build.inputs:
            input_path(self._settings.inputs, name)
        if index in read_aliases(root):
            raise Conflict(f"{index!r} is an alias: build under another name and point it there")
        digest = hashlib.sha256(msgspec.json.encode([index, build])).hexdigest()
        job_id = _id_of(index, key) if key else uuid.uuid4().hex
        try:
            shelf.place(root, job_id, index, build, digest)
        except OSError as error:
            if is_full(error, root):
                raise StorageFull("no room is left for the job's documents") from error
            raise
        self.tend()
        return shelf.read_job(root, job_id)

    def read(self, job_id: str) -> Job:
        """A job as it is now. Raises `NotFound`."""
        return shelf.read_job(self._settings.root, job_id)

    def cancel(self, job_id: str) -> Job:
        """Have a job stop at its next step; one that has ended stays as it is. Raises `NotFound`.

        What a cancelled build was to replace stays as it was.
        """
        root = self._settings.root
        job = self.read(job_id)
        if job.state not in ENDED:
            shelf.ask_cancel(root, job_id)
            self.tend()
        return self.read(job_id)

    def n_pending(self) -> int:
        """Jobs that have not ended."""
        return len(shelf.pending(self._settings.root))

    def tend(self) -> None:
        """Start a worker where there is work and none of ours is at it."""
        with self._lock:
            if self._worker is not None and self._worker.poll() is None:
                return
            if shelf.pending(self._settings.root):
                self._worker = _start(self._settings)


def _id_of(index: str, key: str) -> str:
    """The same id for the same key, and nothing of the key in it."""
    return hashlib.sha256(f"{index}\n{key}".encode()).hexdigest()[:32]


def _start(settings: Settings) -> subprocess.Popen[bytes]:
    """A worker in a session of its own, so that signals to the server do not reach it."""
    plain = msgspec.to_builtins(settings, enc_hook=str)
    given = {name: value for name, value in plain.items() if value is not None}
    command = [sys.executable, "-m", "rag.jobs.worker", msgspec.json.encode(given).decode()]
    with (shelf.jobs_folder(settings.root) / LOG).open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
