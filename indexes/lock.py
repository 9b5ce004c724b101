"""One writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexes.errors import IndexLocked

LOCK = "write.lock"


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
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
