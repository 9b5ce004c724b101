"""Batch build: documents in, a committed index out. Interrupted, it goes on where it stopped.

Documents are cut into shards. A shard is a pure function of the inputs and the configuration:
once it is written and synced it is never made again. The plan file holds the fingerprint of both;
with the same fingerprint a later run skips the shards it finds, with another it starts over.
What people search changes only at the end, in one commit. A document that the index holds already,
represented by the very same retriever, is not represented again: to build with one retriever more,
or from inputs of which a few changed, costs what is new.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from indexes.analyzer import Analyzer, AnalyzerConfig
from indexes.commit import first_manifest
from indexes.document_store import StoredDocument, with_hash
from indexes.errors import CorruptIndex, IndexNotFound, InvalidInput
from indexes.files import write_durably
from indexes.held import Held
from indexes.library import index_folder
from indexes.manifest import SEGMENTS, Manifest, SegmentEntry, read_manifest
from indexes.passages import PassageConfig
from indexes.readers import Read, inputs_fingerprint, read_documents, total_bytes
from indexes.rejects import Rejects
from indexes.segment import check_segment, write_segment
from indexes.writer import BUILD, IndexWriter
from rag.config import Settings
from rag.progress import Deferred, Progress
from rag.represent import cut, represent
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import Retriever, RetrieverSpec

SHARD_DOCUMENTS = 1024
SHARD_CHARS = 16_000_000
PLAN = "plan.json"


class BuildRequest(msgspec.Struct, frozen=True):
    """What to build. `rejects` is where rejected documents are written.

    Representations are taken from the index as it is and from those named in `reuse`, where they
    have the same document by the same retriever; `restart` makes all anew.
    """

    name: str
    inputs: list[Path]
    retrievers: list[RetrieverSpec]
    analyzer: AnalyzerConfig
    passages: PassageConfig
    rejects: Path
    reuse: Sequence[str] = ()
    restart: bool = False


class BuildReport(msgspec.Struct, frozen=True):
    """What came of it. `resumed` counts the documents of shards an earlier run had finished.

    `documents_per_s` is over this run's documents, loading the models and committing included.
    `peak_rss_mb` is of the whole process.
    """

    name: str
    version: int
    n_documents: int
    n_passages: int
    n_rejected: int
    resumed: int
    up_to_date: bool
    rejects: str
    spent_s: float = 0.0
    documents_per_s: float = 0.0
    peak_rss_mb: float = 0.0


class _Plan(msgspec.Struct, frozen=True):
    fingerprint: str


def build_index(request: BuildRequest, settings: Settings, progress: Progress) -> BuildReport:
    """Make the index hold exactly the inputs' documents.

    Raises `InvalidInput` when no usable document is found (the index stays as it was), and
    `IndexLocked` when someone else is writing it.
    """
    started = time.monotonic()
    folder = index_folder(settings.root, request.name)
    entries = [entry_of(spec, settings, progress) for spec in request.retrievers]
    base = first_manifest(request.name, request.analyzer, request.passages, entries)
    progress.note("reading the inputs")
    fingerprint = _fingerprint(base, request)
    with IndexWriter(folder) as writer:
        current = writer.manifest()
        if current and current.source == fingerprint and not request.restart:
            return _up_to_date(current)
        writer.sweep()
        if request.restart or not _same_plan(folder / BUILD, fingerprint):
            writer.drop_build()
            (folder / BUILD).mkdir(parents=True)
            write_durably(folder / BUILD / PLAN, msgspec.json.encode(_Plan(fingerprint)))
        sources = [index_folder(settings.root, name) for name in (request.name, *request.reuse)]
        with _held([] if request.restart else sources, base) as held:
            written = _write_shards(folder / BUILD, base, request, settings, progress, held)
        shards, resumed, rejected = written
        if not shards:
            raise InvalidInput(f"no usable document in the inputs ({rejected} rejected)")
        progress.note("merging and committing")
        source = msgspec.structs.replace(base, source=fingerprint)
        manifest = writer.replace(source, shards, folder / BUILD)
        writer.drop_build()
    spent_s = time.monotonic() - started
    return BuildReport(
        name=manifest.name,
        version=manifest.version,
        n_documents=manifest.n_documents,
        n_passages=manifest.n_passages,
        n_rejected=rejected,
        resumed=resumed,
        up_to_date=False,
        rejects=str(request.rejects) if rejected else "",
        spent_s=round(spent_s, 2),
        documents_per_s=round((manifest.n_documents - resumed) / spent_s, 1),
        peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


def _write_shards(
    build: Path,
    base: Manifest,
    request: BuildRequest,
    settings: Settings,
    progress: Progress,
    held: Sequence[Held],
) -> tuple[list[SegmentEntry], int, int]:
    """Write the shards that are missing: (all shards, documents found done, documents rejected)."""
    analyzer = Analyzer(request.analyzer)
    retrievers: list[Retriever] = []
    shards: list[SegmentEntry] = []
    resumed = 0
    progress.start("indexing", total_bytes(request.inputs), "B")
    bar = Deferred(progress)
    with Rejects(request.rejects) as rejects:
        reads = unique(read_documents(request.inputs, rejects, on_bytes=bar.read), rejects)
        for number, documents in enumerate(shards_of(reads)):
            folder = build / SEGMENTS / f"shard-{number:05d}"
            done = _finished(build, folder)
            if done is not None:
                resumed += done.n_documents
                shards.append(done)
                bar.settle()
                continue
            if not retrievers:
                progress.note("loading the retrievers")
                retrievers = [open_retriever(e, analyzer, settings) for e in base.retrievers]
            entry = encode_shard(folder, documents, request.passages, retrievers, bar, held)
            write_durably(_receipt(folder), msgspec.json.encode(entry))
            shards.append(entry)
            bar.settle()
        progress.finish()
        return shards, resumed, rejects.count


def encode_shard(
    folder: Path,
    documents: Sequence[StoredDocument],
    passages: PassageConfig,
    retrievers: Sequence[Retriever],
    bar: Deferred,
    held: Sequence[Held] = (),
) -> SegmentEntry:
    """Represent the documents with every retriever and write them as one segment."""
    stored = [cut(document, passages) for document in documents]
    vectors = represent(stored, retrievers, bar, held)
    return write_segment(folder, stored, vectors, [retriever.entry for retriever in retrievers])


def shards_of(reads: Iterator[StoredDocument]) -> Iterator[list[StoredDocument]]:
    """Documents cut into shards by number and size, the same way whenever they are read."""
    shard: list[StoredDocument] = []
    n_chars = 0
    for stored in reads:
        shard.append(stored)
        n_chars += len(stored.document.text)
        if len(shard) == SHARD_DOCUMENTS or n_chars >= SHARD_CHARS:
            yield shard
            shard, n_chars = [], 0
    if shard:
        yield shard


def unique(reads: Iterator[Read], rejects: Rejects) -> Iterator[StoredDocument]:
    """Documents without those whose id came before, which are rejected."""
    seen: dict[str, str] = {}
    for read in reads:
        first = seen.get(read.document.id)
        if first is not None:
            rejects.add(read.source, read.line, read.document.id, f"duplicate id, first at {first}")
            continue
        seen[read.document.id] = f"{read.source}:{read.line}"
        yield with_hash(read.document, [])


@contextmanager
def _held(folders: Sequence[Path], base: Manifest) -> Iterator[list[Held]]:
    """Of these indexes those that can spare the retrievers work."""
    held: list[Held] = []
    try:
        for folder in folders:
            try:
                found = read_manifest(folder)
                if _shares(found, base):
                    held.append(Held(folder, found))
            except (IndexNotFound, CorruptIndex):
                continue
        yield held
    finally:
        for index in held:
            index.close()


def _shares(found: Manifest, base: Manifest) -> bool:
    """Whether the same document is cut the same way, and a retriever is the same."""
    return (
        found.analyzer_sha256 == base.analyzer_sha256
        and found.passages == base.passages
        and any(entry in found.retrievers for entry in base.retrievers)
    )


def _finished(build: Path, folder: Path) -> SegmentEntry | None:
    """The shard's entry if an earlier run finished it and its bytes are still right."""
    receipt = _receipt(folder)
    if not receipt.is_file():
        return None
    entry = msgspec.json.decode(receipt.read_bytes(), type=SegmentEntry)
    try:
        check_segment(build, entry, checksums=True)
    except CorruptIndex:
        return None
    return entry


def _receipt(folder: Path) -> Path:
    return folder.with_suffix(".json")


def _fingerprint(base: Manifest, request: BuildRequest) -> str:
    facts = [
        inputs_fingerprint(request.inputs),
        base.analyzer_sha256,
        base.passages,
        base.retrievers,
        base.format,
        SHARD_DOCUMENTS,
        SHARD_CHARS,
    ]
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _same_plan(build: Path, fingerprint: str) -> bool:
    plan = build / PLAN
    if not plan.is_file():
        return False
    return msgspec.json.decode(plan.read_bytes(), type=_Plan).fingerprint == fingerprint


def _up_to_date(current: Manifest) -> BuildReport:
    return BuildReport(
        name=current.name,
        version=current.version,
        n_documents=current.n_documents,
        n_passages=current.n_passages,
        n_rejected=0,
        resumed=current.n_documents,
        up_to_date=True,
        rejects="",
    )
