"""A segment: an immutable folder with documents, passages and every retriever's representations."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.array_file import read_array
from indexes.bm25 import Bm25Params, write_impacts
from indexes.document_store import DocumentStore, StoredDocument, store_documents
from indexes.errors import CorruptIndex
from indexes.files import sha256_of, sync_file, sync_folder, walk_files
from indexes.forward import Forward, write_forward
from indexes.layers import Layers, has_layers, write_layers
from indexes.manifest import SEGMENTS, FileEntry, RetrieverEntry, SegmentEntry
from indexes.postings import Postings, write_postings
from indexes.representation import Mask, PassageVectors
from indexes.vectors import Vectors, write_vectors

STARTS = "passages.npy"
"""First passage row of each document, and the end: uint32 `[n_documents + 1]`."""


def write_segment(
    folder: Path,
    documents: Iterable[StoredDocument],
    vectors: Mapping[str, PassageVectors],
    retrievers: Sequence[RetrieverEntry],
) -> SegmentEntry:
    """Write a whole segment into `folder` (made anew), fsync it all, and describe it.

    Nothing refers to it yet: a crash in here leaves a folder that the next writer removes.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    counts = store_documents(folder, iter(documents))
    starts = np.cumsum([0, *counts.passages_of]).astype(np.uint32)
    np.save(folder / STARTS, starts)
    for retriever in retrievers:
        _write_vectors(folder, retriever, vectors[retriever.name])
    files = {}
    for file in walk_files(folder):
        sync_file(file)
        files[file.name] = FileEntry(file.stat().st_size, sha256_of(file))
    sync_folder(folder)
    return SegmentEntry(
        folder.name, len(counts.passages_of), int(starts[-1]), counts.content, files
    )


def _write_vectors(folder: Path, retriever: RetrieverEntry, vectors: PassageVectors) -> None:
    if vectors.sparse is not None:
        write_postings(folder, retriever.name, vectors.sparse)
        if retriever.weighting == "bm25":
            write_impacts(folder, retriever.name, bm25_params(retriever))
        else:
            write_layers(folder, retriever.name, vectors.sparse.n_rows)
            write_forward(folder, retriever.name, vectors.sparse.n_rows)
    if vectors.dense is not None:
        write_vectors(folder, retriever.name, vectors.dense)


def bm25_params(retriever: RetrieverEntry) -> Bm25Params:
    """The BM25 constants that a retriever was built with."""
    return msgspec.convert(retriever.params, Bm25Params)


def check_segment(index: Path, entry: SegmentEntry, *, checksums: bool) -> None:
    """Raise `CorruptIndex`, naming the file, unless sizes (and checksums, if asked) agree."""
    folder = index / SEGMENTS / entry.id
    for name, expected in entry.files.items():
        file = folder / name
        if not file.is_file():
            raise CorruptIndex(f"{index.name!r}: the file {entry.id}/{name} is missing")
        size = file.stat().st_size
        if size != expected.bytes:
            raise CorruptIndex(
                f"{index.name!r}: {entry.id}/{name} has {size} bytes, {expected.bytes} expected"
            )
        if checksums and sha256_of(file) != expected.sha256:
            raise CorruptIndex(f"{index.name!r}: {entry.id}/{name} does not match its checksum")


class Segment:
    """An open segment. `alive` masks its passages; None means that nothing was deleted."""

    def __init__(
        self, index: Path, entry: SegmentEntry, retrievers: Sequence[RetrieverEntry]
    ) -> None:
        folder = index / SEGMENTS / entry.id
        self.entry = entry
        self.store = DocumentStore(folder)
        starts: NDArray[np.uint32] = read_array(folder / STARTS)
        self.starts = starts[:-1].astype(np.int64)
        self.passages_of = np.diff(starts).astype(np.int64)
        self.ordinals = np.repeat(np.arange(entry.n_documents, dtype=np.uint32), self.passages_of)
        self.deleted = _deleted(index, entry)
        self.alive = self._alive()
        self.postings: dict[str, Postings] = {}
        self.layers: dict[str, Layers] = {}
        self.forward: dict[str, Forward] = {}
        self.vectors: dict[str, Vectors] = {}
        for retriever in retrievers:
            if "sparse" in retriever.parts:
                postings = Postings(folder, retriever.name)
                self.postings[retriever.name] = postings
                if has_layers(folder, retriever.name):
                    self.layers[retriever.name] = Layers(folder, retriever.name)
                    self.forward[retriever.name] = Forward(folder, retriever.name, postings.n_terms)
            if "dense" in retriever.parts:
                self.vectors[retriever.name] = Vectors(folder, retriever.name)

    @property
    def n_passages(self) -> int:
        """Passages on disk, deleted ones counted."""
        return self.entry.n_passages

    @property
    def one_passage_each(self) -> bool:
        """Whether every document is a single passage, so that nothing needs collapsing."""
        return self.entry.n_passages == self.entry.n_documents

    def rows_of(self, ordinals: NDArray[np.uint32]) -> Mask:
        """Mask of the passages that belong to these documents."""
        chosen = np.zeros(self.entry.n_documents, dtype=np.bool_)
        chosen[ordinals] = True
        mask: Mask = chosen[self.ordinals]
        return mask

    def close(self) -> None:
        """Let go of the files."""
        self.store.close()

    def _alive(self) -> Mask | None:
        return ~self.rows_of(self.deleted) if len(self.deleted) else None


def _deleted(index: Path, entry: SegmentEntry) -> NDArray[np.uint32]:
    """Ordinals of the deleted documents, ascending."""
    if entry.tombstones is None:
        return np.zeros(0, dtype=np.uint32)
    path = index / entry.tombstones
    if not path.is_file() or sha256_of(path) != entry.tombstones_sha256:
        raise CorruptIndex(f"{index.name!r}: {entry.tombstones} does not match its checksum")
    return np.asarray(read_array(path), dtype=np.uint32)
