"""Changing an index: build from shards, upsert, delete, compact. One writer at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.commit import commit, sweep, write_tombstones
from indexes.document import corpus_hash
from indexes.document_store import StoredDocument
from indexes.errors import DocumentNotFound, EvidentError, IndexNotFound, StorageFull
from indexes.files import is_full
from indexes.lock import writer_lock
from indexes.manifest import SEGMENTS, Manifest, SegmentEntry, read_manifest
from indexes.postings import concatenate, revert
from indexes.representation import PassageVectors
from indexes.segment import Segment, write_segment

MOST_SEGMENTS = 16
BUILD = "build"
"""Shards of an unfinished build live here until they are merged into a segment."""


class IndexWriter:
    """Holds the lock of one index folder while it is open; every change is one commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: AbstractContextManager[None] | None = None

    def __enter__(self) -> IndexWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = writer_lock(self.folder)
        self._lock.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        full = error is not None and is_full(error, self.folder)
        if full:
            # What was written of it is in the way of everything else.
            with suppress(OSError, EvidentError):
                self.sweep()
        if self._lock is not None:
            self._lock.__exit__(kind, error, trace)
            self._lock = None
        if full:
            raise StorageFull(f"no room is left for the index {self.folder.name!r}") from error

    def manifest(self) -> Manifest | None:
        """What is committed now; None before the first commit."""
        try:
            return read_manifest(self.folder)
        except IndexNotFound:
            return None

    def replace(self, base: Manifest, shards: Sequence[SegmentEntry], shard_root: Path) -> Manifest:
        """Make the merged shards (folders below `shard_root/segments`) the whole index."""
        current = self.manifest()
        version = current.version if current else 0
        merged = self._merge(base, shard_root, shards, version + 1)
        kept = [merged] if merged else []
        return commit(self.folder, msgspec.structs.replace(base, version=version), kept)

    def upsert(
        self, documents: Sequence[StoredDocument], vectors: Mapping[str, PassageVectors]
    ) -> Manifest:
        """Add documents; those whose id is there replace the old ones. One commit."""
        current = self._current()
        ids = [stored.document.id for stored in documents]
        entries, _ = self._tombstoned(current, ids)
        entry = write_segment(
            self._new_folder(current.version + 1), documents, vectors, current.retrievers
        )
        return commit(self.folder, current, [*entries, entry])

    def delete(self, ids: Sequence[str]) -> Manifest:
        """Delete documents from every retriever at once.

        Raises `DocumentNotFound` when an id has no live document; then nothing is deleted.
        """
        current = self._current()
        entries, missing = self._tombstoned(current, ids)
        if missing:
            shown = ", ".join(repr(key) for key in missing[:5])
            raise DocumentNotFound(f"{current.name!r} has no document {shown}")
        return commit(self.folder, current, entries)

    def merge_small(self, most: int = MOST_SEGMENTS) -> Manifest:
        """Where there are more than `most` segments, rewrite the newest, small ones as one.

        Single documents come as segments of their own, and each costs every search a little. From
        the end, a segment is merged unless it holds over twice what comes after it: so a document
        is rewritten a number of times that grows with the logarithm of how many follow it.
        """
        current = self._current()
        segments = current.segments
        if len(segments) <= most:
            return current
        first = len(segments) - 1
        n_documents = segments[first].n_documents
        while first and segments[first - 1].n_documents <= 2 * n_documents:
            first -= 1
            n_documents += segments[first].n_documents
        if first == len(segments) - 1:
            return current
        merged = self._merge(current, self.folder, segments[first:], current.version + 1)
        return commit(self.folder, current, [*segments[:first], *([merged] if merged else [])])

    def compact(self) -> Manifest:
        """Rewrite all segments as one, without the deleted documents."""
        current = self._current()
        if len(current.segments) == 1 and not current.segments[0].n_deleted:
            return current
        merged = self._merge(current, self.folder, current.segments, current.version + 1)
        return commit(self.folder, current, [merged] if merged else [])

    def sweep(self) -> None:
        """Remove what a crash left behind."""
        current = self.manifest()
        if current is not None:
            sweep(self.folder, current)

    def drop_build(self) -> None:
        """Remove the shards of a finished or abandoned build."""
        shutil.rmtree(self.folder / BUILD, ignore_errors=True)

    def _current(self) -> Manifest:
        return read_manifest(self.folder)

    def _new_folder(self, version: int) -> Path:
        return self.folder / SEGMENTS / f"{version:08d}"

    def _tombstoned(
        self, current: Manifest, ids: Sequence[str]
    ) -> tuple[list[SegmentEntry], list[str]]:
        """The segments with these documents deleted, and the ids that had no live document."""
        missing = set(ids)
        entries = []
        for entry in current.segments:
            segment = Segment(self.folder, entry, [])
            try:
                here = segment.store.ordinals(list(ids))
                found = np.array(sorted(here.values()), dtype=np.uint32)
                fresh = np.setdiff1d(found, segment.deleted)
                missing -= {key for key, ordinal in here.items() if ordinal in fresh}
                entries.append(self._without(segment, fresh, current.version + 1))
            finally:
                segment.close()
        return entries, sorted(missing)

    def _without(self, segment: Segment, fresh: NDArray[np.uint32], version: int) -> SegmentEntry:
        """The segment's entry with more documents deleted."""
        if not len(fresh):
            return segment.entry
        deleted = np.union1d(segment.deleted, fresh).astype(np.uint32)
        gone = segment.store.hashes(fresh.tolist())
        entry = msgspec.structs.replace(
            segment.entry,
            content=corpus_hash([segment.entry.content], without=gone),
            n_deleted_passages=int(segment.rows_of(deleted).sum()),
        )
        return write_tombstones(self.folder, entry, deleted, version)

    def _merge(
        self, base: Manifest, root: Path, entries: Sequence[SegmentEntry], version: int
    ) -> SegmentEntry | None:
        """One segment with the live documents of several; None when none is left."""
        segments = [Segment(root, entry, base.retrievers) for entry in entries]
        try:
            if not any(len(segment.deleted) < segment.entry.n_documents for segment in segments):
                return None
            vectors = {
                retriever.name: _merged_vectors(segments, retriever.name)
                for retriever in base.retrievers
            }
            documents = (stored for segment in segments for stored in _live_documents(segment))
            return write_segment(self._new_folder(version), documents, vectors, base.retrievers)
        finally:
            for segment in segments:
                segment.close()


def _live_documents(segment: Segment) -> Iterator[StoredDocument]:
    dead = set(segment.deleted.tolist())
    for ordinal, stored in enumerate(segment.store.stored()):
        if ordinal not in dead:
            yield stored


def _merged_vectors(segments: Sequence[Segment], name: str) -> PassageVectors:
    sparse = [
        revert(segment.postings[name], *_renumbered(segment))
        for segment in segments
        if name in segment.postings
    ]
    dense = [
        segment.vectors[name].matrix()[_alive_rows(segment)]
        for segment in segments
        if name in segment.vectors
    ]
    return PassageVectors(
        sparse=concatenate(sparse) if sparse else None,
        dense=np.concatenate(dense) if dense else None,
    )


def _renumbered(segment: Segment) -> tuple[NDArray[np.int64], int]:
    """New row of each old one (−1 for the deleted), and how many are kept."""
    if segment.alive is None:
        return np.arange(segment.n_passages), segment.n_passages
    kept = int(segment.alive.sum())
    return np.where(segment.alive, np.cumsum(segment.alive) - 1, -1), kept


def _alive_rows(segment: Segment) -> NDArray[np.int64]:
    if segment.alive is None:
        return np.arange(segment.n_passages)
    return np.flatnonzero(segment.alive)
