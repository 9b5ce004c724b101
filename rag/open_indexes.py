"""The indexes that are open for reading: one snapshot each, reopened after a commit."""

from __future__ import annotations

import itertools
import logging
import threading
from pathlib import Path

import msgspec

from indexes.bounded_cache import BoundedCache, CacheState
from indexes.document import Passage, passage_bytes
from indexes.errors import CorruptIndex
from indexes.library import index_folder, index_names, resolve_alias
from indexes.manifest import MANIFEST
from indexes.segment import check_segment
from indexes.snapshot import KnownPassages, Snapshot

logger = logging.getLogger(__name__)

Stamp = tuple[int, int]


class Opened(msgspec.Struct, frozen=True):
    """An open index; no two snapshots of a process share a `serial`."""

    stamp: Stamp
    serial: int
    snapshot: Snapshot


class OpenIndexes:
    """Owns the snapshots of the indexes under a root. Safe for threads.

    An index whose files were found to be damaged is quarantined: it is not opened again until
    another commit has replaced it. The others are served. Passages that were fetched are kept in
    `passage_bytes` of memory; they stay good over commits that leave their segment as it is.
    """

    def __init__(self, root: Path, passage_bytes: int = 0) -> None:
        self._root = root
        self._passages: KnownPassages = BoundedCache(passage_bytes, _weight)
        self._lock = threading.Lock()
        self._serials = itertools.count()
        self._opened: dict[Path, Opened] = {}
        self._damaged: dict[Path, tuple[Stamp, str]] = {}

    def open(self, name: str) -> Opened:
        """The index as it is now; aliases are followed. Raises `IndexNotFound`, `CorruptIndex`."""
        folder = index_folder(self._root, resolve_alias(self._root, name))
        stamp = _stamp(folder)
        with self._lock:
            opened = self._opened.get(folder)
            if opened is not None and opened.stamp == stamp:
                return opened
            self._check_quarantine(folder, stamp)
            try:
                # The old snapshot closes itself when the last request that uses it lets go.
                snapshot = Snapshot(folder, passages=self._passages)
            except CorruptIndex as error:
                self._quarantine(folder, stamp, str(error))
                raise
            opened = Opened(stamp, next(self._serials), snapshot)
            self._opened[folder] = opened
            return opened

    def verify(self, name: str) -> None:
        """Read every file of an index; quarantine it and raise `CorruptIndex` for a damaged one.

        A commit meanwhile may remove files: then the newer snapshot is verified.
        """
        while True:
            opened = self.open(name)
            folder = opened.snapshot.folder
            damage = _damage(opened.snapshot)
            if damage is None:
                return
            if _stamp(folder) == opened.stamp:
                with self._lock:
                    self._quarantine(folder, opened.stamp, damage)
                raise CorruptIndex(damage)

    def quarantined(self) -> list[str]:
        """Names of the indexes that are not served because their files are damaged, sorted."""
        with self._lock:
            damaged = dict(self._damaged)
        return sorted(
            folder.name for folder, (stamp, _) in damaged.items() if _stamp(folder) == stamp
        )

    def names(self) -> list[str]:
        """Names of all indexes under the root, sorted."""
        return index_names(self._root)

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            for opened in self._opened.values():
                opened.snapshot.close()
            self._opened.clear()
        self._passages.clear()

    def passages(self) -> CacheState:
        """How the memory of fetched passages does."""
        return self._passages.state()

    def _check_quarantine(self, folder: Path, stamp: Stamp) -> None:
        known = self._damaged.get(folder)
        if known is None:
            return
        if known[0] == stamp:
            raise CorruptIndex(known[1])
        del self._damaged[folder]

    def _quarantine(self, folder: Path, stamp: Stamp, damage: str) -> None:
        opened = self._opened.pop(folder, None)
        if opened is not None:
            # At once, though somebody may be reading: what he reads is damaged.
            opened.snapshot.close()
        self._damaged[folder] = (stamp, damage)
        logger.error("the index %r is quarantined: %s", folder.name, damage)


def _damage(snapshot: Snapshot) -> str | None:
    """What is wrong with a snapshot's files; None when they match their checksums."""
    try:
        for entry in snapshot.manifest.segments:
            check_segment(snapshot.folder, entry, checksums=True)
    except (CorruptIndex, OSError) as error:
        return str(error)
    return None


def _stamp(folder: Path) -> Stamp:
    """Changes whenever the manifest was replaced."""
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)


def _weight(_: tuple[str, int], passage: Passage) -> int:
    return passage_bytes(passage)
