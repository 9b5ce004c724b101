"""One writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from indexes.errors import IndexLocked

LOCK = "write.lock"
TURN = ".turn.lock"


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's write lock; the kernel releases it when the process dies, however it dies.

    Raises `IndexLocked`, naming the holder, when another process has it.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise IndexLocked(
                f"the index {folder.name!r} is being written by process {holder}; "
                "wait for it or stop it"
            ) from error
        # The holder's number is only for the message: on a full disk it is not worth a refusal.
        with suppress(OSError):
            os.pwrite(descriptor, f"{os.getpid():<20}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def writers_turn(root: Path) -> Iterator[None]:
    """Wait until no other process of a service writes single documents under this root.

    Builds do not take turns: while one holds an index's own lock, that is a conflict.
    """
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / TURN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
