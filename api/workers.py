"""Several server processes on one bound socket: started, watched, replaced when they die.

Each opens the indexes by memory-mapping, so that the system keeps their files in memory once for
all. Models are loaded by each.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from types import FrameType

import msgspec
from prometheus_client.multiprocess import mark_process_dead

from api.metrics import FOLDER
from api.server import GRACE_S
from indexes.errors import EvidentError
from rag.config import Settings

logger = logging.getLogger(__name__)

POLL_S = 0.2
EARLY_S = 10.0
"""A worker that ends sooner has not served: the next one waits a little before it tries."""

MAX_EARLY = 5
"""So many early ends in a row, and the server gives up: something is wrong with all of them."""


class Workers:
    """Owns the worker processes. The kernel gives each connection to one that is free."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = shared_out(settings)
        self._listener = listener
        self._running: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self._n_early = 0
        self._stop: signal.Signals | None = None

    def run(self) -> signal.Signals:
        """Serve until SIGTERM or SIGINT, which is returned once all workers have ended well.

        Raises `EvidentError` when workers keep ending before they have served.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        with tempfile.TemporaryDirectory(prefix="evident-metrics-") as metrics:
            try:
                while self._stop is None:
                    self._fill(metrics)
                    time.sleep(POLL_S)
                    self._reap(metrics)
            finally:
                self._end()
        return self._stop

    def _fill(self, metrics: str) -> None:
        while len(self._running) < self._settings.workers:
            command = [sys.executable, "-m", "api.worker", str(self._listener.fileno())]
            worker = subprocess.Popen(
                [*command, settings_text(self._settings)],
                pass_fds=[self._listener.fileno()],
                env=os.environ | {FOLDER: metrics},
                # A terminal's Ctrl-C is for us; we tell the workers.
                start_new_session=True,
            )
            self._running[worker.pid] = (worker, time.monotonic())
            logger.info("worker %d started", worker.pid)

    def _reap(self, metrics: str) -> None:
        for pid, (worker, started) in list(self._running.items()):
            code = worker.poll()
            if code is None:
                continue
            del self._running[pid]
            mark_process_dead(pid, metrics)  # type: ignore[no-untyped-call]
            logger.error("worker %d ended with %d: another one takes its place", pid, code)
            early = time.monotonic() - started < EARLY_S
            self._n_early = self._n_early + 1 if early else 0
            if self._n_early >= MAX_EARLY * self._settings.workers:
                raise EvidentError("the workers end as soon as they start: see the log")
            if early:
                time.sleep(self._n_early * POLL_S)

    def _end(self) -> None:
        """Pass the signal on and wait; who does not end in time is killed."""
        for worker, _ in self._running.values():
            worker.send_signal(self._stop or signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S + 5
        for worker, _ in self._running.values():
            try:
                worker.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._stop = signal.Signals(number)


def shared_out(settings: Settings) -> Settings:
    """Settings of one worker: its share of the cores, unless a number of threads was given."""
    if settings.n_threads:
        return settings
    share = max(1, (os.cpu_count() or 1) // settings.workers)
    return msgspec.structs.replace(settings, n_threads=share)


def settings_text(settings: Settings) -> str:
    """Settings as another process of ours reads them."""
    plain = msgspec.to_builtins(settings, enc_hook=str)
    return msgspec.json.encode({k: v for k, v in plain.items() if v is not None}).decode()
