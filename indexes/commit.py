"""The commit protocol: write and fsync new files, replace the manifest, sweep what is old.

A crash at any point leaves the old manifest or the new one, and everything it names complete:
segments and tombstones are written under fresh names and synced before the manifest that names
them replaces the old one by rename. What no manifest names is removed by the next commit. Readers
keep their snapshot: their files stay readable through their open handles.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.analyzer import Analyzer, AnalyzerConfig
from indexes.document import corpus_hash
from indexes.files import sha256_of, sync_file, sync_folder
from indexes.manifest import (
    FORMAT,
    SEGMENTS,
    Manifest,
    RetrieverEntry,
    SegmentEntry,
    write_manifest,
)
from indexes.passages import PassageConfig

TOMBSTONES = "tombstones"


def first_manifest(
    name: str,
    analyzer: AnalyzerConfig,
    passages: PassageConfig,
    retrievers: Sequence[RetrieverEntry],
) -> Manifest:
    """The manifest of an index that holds nothing yet; version 0 is never committed."""
    return Manifest(
        name=name,
        version=0,
        format=FORMAT,
        tool=f"evident-rag {version('evident-rag')}",
        created=_now(),
        analyzer=_settings(analyzer),
        analyzer_sha256=Analyzer(analyzer).fingerprint(),
        passages=_settings(passages),
        retrievers=list(retrievers),
        segments=[],
        n_documents=0,
        n_passages=0,
        corpus_sha256=corpus_hash([]),
    )


def commit(folder: Path, manifest: Manifest, segments: Sequence[SegmentEntry]) -> Manifest:
    """Make these segments the index's content and return the manifest now in force.

    `manifest` carries everything else; its version goes up by one. The caller holds the lock and
    has written the segments' files durably.
    """
    committed = msgspec.structs.replace(
        manifest,
        version=manifest.version + 1,
        created=_now(),
        tool=f"evident-rag {version('evident-rag')}",
        segments=list(segments),
        n_documents=sum(entry.n_documents - entry.n_deleted for entry in segments),
        n_passages=sum(entry.n_passages - entry.n_deleted_passages for entry in segments),
        corpus_sha256=corpus_hash(entry.content for entry in segments),
    )
    for parent in (folder / SEGMENTS, folder / TOMBSTONES, folder, folder.parent):
        if parent.is_dir():
            sync_folder(parent)
    write_manifest(folder, committed)
    sweep(folder, committed)
    return committed


def write_tombstones(
    folder: Path, entry: SegmentEntry, deleted: NDArray[np.uint32], next_version: int
) -> SegmentEntry:
    """Record all deleted ordinals (ascending) of a segment in a fresh file it then names."""
    (folder / TOMBSTONES).mkdir(exist_ok=True)
    relative = f"{TOMBSTONES}/{next_version:08d}-{entry.id}.npy"
    path = folder / relative
    np.save(path, deleted.astype(np.uint32))
    sync_file(path)
    sync_folder(path.parent)
    return msgspec.structs.replace(
        entry, tombstones=relative, tombstones_sha256=sha256_of(path), n_deleted=len(deleted)
    )


def sweep(folder: Path, manifest: Manifest) -> None:
    """Remove segments and tombstones that the manifest does not name."""
    named = {entry.id for entry in manifest.segments}
    if (folder / SEGMENTS).is_dir():
        for child in (folder / SEGMENTS).iterdir():
            if child.name not in named:
                shutil.rmtree(child)
    kept = {entry.tombstones for entry in manifest.segments}
    if (folder / TOMBSTONES).is_dir():
        for child in (folder / TOMBSTONES).iterdir():
            if f"{TOMBSTONES}/{child.name}" not in kept:
                child.unlink()


def _settings(config: Any) -> dict[str, Any]:
    settings: dict[str, Any] = msgspec.to_builtins(config)
    return settings


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
