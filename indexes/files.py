"""Writing files so that they survive a crash: write, fsync, rename, fsync the folder."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from indexes.errors import EvidentError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
LITTLE_BYTES = 64 * 1024


def sync_file(path: Path) -> None:
    """Flush a closed file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk: without it a rename may be lost."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` by `content` atomically: a crash leaves the old bytes or the new."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)
    sync_folder(path.parent)


def is_full(error: BaseException, folder: Path) -> bool:
    """Whether writing below `folder` failed for want of room.

    Libraries that write files of their own wrap the system's error, or forget its number: then
    their words decide, or how little room there is.
    """
    if isinstance(error, EvidentError):
        return False
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    if "No space left on device" in str(error):
        return True
    return isinstance(error, OSError | RuntimeError) and _free_bytes(folder) < LITTLE_BYTES


def _free_bytes(folder: Path) -> int:
    """Room that a process without privileges may take; plenty where that cannot be told."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return LITTLE_BYTES


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_bytes(path: Path) -> int:
    """Bytes of every file below `path`."""
    return sum(file.stat().st_size for file in walk_files(path))


def walk_files(path: Path) -> Iterator[Path]:
    """Every regular file below `path`, in sorted order."""
    yield from sorted(file for file in path.rglob("*") if file.is_file())
