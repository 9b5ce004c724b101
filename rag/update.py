"""Upserts: documents into an index that exists, in commits of one shard each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from indexes.analyzer import Analyzer, AnalyzerConfig
from indexes.document_store import StoredDocument
from indexes.errors import IndexNotFound, InvalidInput
from indexes.library import index_folder, resolve_alias
from indexes.manifest import Manifest
from indexes.passages import PassageConfig
from indexes.readers import read_documents, total_bytes
from indexes.rejects import Rejects
from indexes.writer import IndexWriter
from rag.build import BuildReport, shards_of, unique
from rag.config import Settings
from rag.progress import Deferred, Progress
from rag.represent import cut, represent
from rag.retrievers.opening import open_retriever
from rag.retrievers.retriever import Retriever


def update_index(
    name: str, inputs: Sequence[Path], rejects_file: Path, settings: Settings, progress: Progress
) -> BuildReport:
    """Add the inputs' documents; the same ids replace. Each shard is searchable once committed.

    Raises `IndexNotFound`, `IndexLocked`, and `InvalidInput` when no document is usable.
    """
    folder = index_folder(settings.root, resolve_alias(settings.root, name))
    if not folder.is_dir():
        raise IndexNotFound(f"there is no index {name!r}")
    bar = Deferred(progress)
    with IndexWriter(folder) as writer, Rejects(rejects_file) as rejects:
        manifest = writer.manifest()
        if manifest is None:
            raise IndexNotFound(f"there is no index {name!r}")
        retrievers = retrievers_of(manifest, settings)
        progress.start("updating", total_bytes(inputs), "B")
        n_shards = 0
        reads = unique(read_documents(inputs, rejects, on_bytes=bar.read), rejects)
        for shard in shards_of(reads):
            manifest = upsert(writer, manifest, shard, retrievers, bar)
            bar.settle()
            n_shards += 1
        progress.finish()
        if not n_shards:
            raise InvalidInput(f"no usable document in the inputs ({rejects.count} rejected)")
        return BuildReport(
            name=manifest.name,
            version=manifest.version,
            n_documents=manifest.n_documents,
            n_passages=manifest.n_passages,
            n_rejected=rejects.count,
            resumed=0,
            up_to_date=False,
            rejects=str(rejects_file) if rejects.count else "",
        )


def upsert(
    writer: IndexWriter,
    manifest: Manifest,
    documents: Sequence[StoredDocument],
    retrievers: Sequence[Retriever],
    bar: Deferred,
) -> Manifest:
    """Represent the documents as the index's others are and commit them."""
    config = msgspec.convert(manifest.passages, PassageConfig)
    stored = [cut(document, config) for document in documents]
    return writer.upsert(stored, represent(stored, retrievers, bar))


def retrievers_of(manifest: Manifest, settings: Settings) -> list[Retriever]:
    """Working retrievers for everything the manifest names."""
    analyzer = Analyzer(msgspec.convert(manifest.analyzer, AnalyzerConfig))
    return [open_retriever(entry, analyzer, settings) for entry in manifest.retrievers]
