"""A real index over given vectors: the writer's segment and commit, documents without texts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from indexes.analyzer import AnalyzerConfig
from indexes.commit import commit, first_manifest
from indexes.document import Document
from indexes.document_store import StoredDocument, with_hash
from indexes.manifest import SEGMENTS, RetrieverEntry
from indexes.passages import PassageConfig
from indexes.representation import PassageVectors, SparseRows
from indexes.segment import write_segment
from indexes.snapshot import Snapshot

NOTE = "bench.json"


class SparseIndex(msgspec.Struct, frozen=True):
    """An open index with one retriever. `n_bytes` are of its postings alone, not the catalogue."""

    snapshot: Snapshot
    build_s: float
    n_bytes: int


class _Note(msgspec.Struct, frozen=True):
    build_s: float


def sparse_index(folder: Path, entry: RetrieverEntry, rows: SparseRows) -> SparseIndex:
    """Open the index in `folder`; it is written first, and timed, unless it is there already.

    `build_s` counts all that a build does after encoding: inverting, layers, the catalogue of
    documents, checksums, flushing to the disk.
    """
    if not (folder / NOTE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / SEGMENTS).mkdir(parents=True)
        base = first_manifest(folder.name, AnalyzerConfig(), PassageConfig(), [entry])
        started = time.perf_counter()
        vectors = {entry.name: PassageVectors(sparse=rows)}
        written = write_segment(
            folder / SEGMENTS / "00000001", _documents(rows.n_rows), vectors, [entry]
        )
        commit(folder, base, [written])
        note = _Note(round(time.perf_counter() - started, 3))
        (folder / NOTE).write_bytes(msgspec.json.encode(note))
    snapshot = Snapshot(folder)
    files = snapshot.manifest.segments[0].files
    return SparseIndex(
        snapshot=snapshot,
        build_s=msgspec.json.decode((folder / NOTE).read_bytes(), type=_Note).build_s,
        n_bytes=sum(
            file.bytes for name, file in files.items() if name.startswith(f"{entry.name}.")
        ),
    )


def _documents(n_documents: int) -> Iterator[StoredDocument]:
    return (with_hash(Document(str(number), ""), [(0, 0)]) for number in range(n_documents))
