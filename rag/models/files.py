"""Model files on disk: digests, flushing, locking, replacing a folder in one step."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from indexes.files import sha256_of, sync_folder
from rag.progress import Progress

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
"""Weights in these formats are pickles or usually hold one: never opened."""


class _Known(msgspec.Struct, frozen=True):
    """A digest and the state of the file it was computed from."""

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str


def fingerprint(path: Path, cache: Path) -> str:
    """SHA-256 of a file, remembered in `cache` until its size or time of change differs."""
    path = path.resolve()
    status = path.stat()
    note = cache / "fingerprints" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    with suppress(OSError, msgspec.DecodeError):
        known = msgspec.json.decode(note.read_bytes(), type=_Known)
        if (known.path, known.size_bytes, known.mtime_ns) == (
            *(str(path), status.st_size),
            status.st_mtime_ns,
        ):
            return known.sha256
    digest = sha256_of(path)
    known = _Known(str(path), status.st_size, status.st_mtime_ns, digest)
    # A cache that cannot be written to costs time, not correctness.
    with suppress(OSError):
        write_atomically(note, msgspec.json.encode(known))
    return digest


def write_atomically(path: Path, content: bytes) -> None:
    """Readers see the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """A new, empty folder that takes the place of `target` when the block ends without an error.

    Call it under `locked`: what an earlier, killed process left half-made is removed.
    """
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    sync_folder(target.parent)


@contextmanager
def locked(path: Path, what: str, progress: Progress) -> Iterator[None]:
    """Hold an advisory lock on `path`, waiting for the process that has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"another process is preparing {what}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def megabytes(n_bytes: int) -> str:
    """A size in words: `98.4 MB` (10^6 bytes), kB below one of them."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1_000_000 else f"{n_bytes / 1e3:,.1f} kB"
