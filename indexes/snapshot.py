"""An index as it was at one commit, open for reading."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.analyzer import Analyzer, AnalyzerConfig
from indexes.bm25 import Bm25Statistics
from indexes.bounded_cache import BoundedCache
from indexes.document import Document, Passage
from indexes.document_store import FILE as DOCUMENTS
from indexes.errors import CorruptIndex, DocumentNotFound, EvidentError, UsageError
from indexes.filters import Filter, is_empty
from indexes.gather import Gather
from indexes.manifest import Manifest, RetrieverEntry, read_manifest
from indexes.representation import Mask, QueryVector, Ranking
from indexes.scoring import search_segments
from indexes.segment import Segment, bm25_params, check_segment
from indexes.sparse_search import SparseMode

N_SEATS = 2
"""Searches of one kind that run side by side before others are gathered."""

KnownPassages = BoundedCache[tuple[str, int], Passage]
"""(the hash of a segment's documents, row in the segment) → the passage."""

_ATTEMPTS = 20
"""A writer may remove old segments between our reading the manifest and opening them."""


class Snapshot:
    """Searches and fetches; stays what it is while writers commit. Safe for threads.

    A passage's row is its number over all segments. The three methods of the store port are
    `search`, `fetch` and the attribute `manifest`. `passages` remembers what was fetched; several
    snapshots may share it.
    """

    def __init__(
        self, folder: Path, *, checksums: bool = False, passages: KnownPassages | None = None
    ) -> None:
        self.folder = folder
        self._known_passages = passages
        self.manifest, self.segments = _open(folder, checksums=checksums)
        self.analyzer = _analyzer(self.manifest)
        self._ids: list[list[str]] | None = None
        self._bases = np.cumsum([0, *(segment.n_passages for segment in self.segments)])
        self._all_alive: list[Mask | None] = [segment.alive for segment in self.segments]
        self._gathers: dict[tuple[str, int], Gather[QueryVector, Ranking]] = {}
        self._gathers_lock = threading.Lock()
        self._retrievers = {entry.name: entry for entry in self.manifest.retrievers}
        self._statistics = {
            entry.name: self._bm25(entry)
            for entry in self.manifest.retrievers
            if entry.weighting == "bm25"
        }

    def retriever(self, name: str) -> RetrieverEntry:
        """What the manifest says of a retriever. Raises `UsageError` naming those there are."""
        if name not in self._retrievers:
            known = ", ".join(self._retrievers)
            raise UsageError(f"the index {self.manifest.name!r} has no retriever {name!r}: {known}")
        return self._retrievers[name]

    def allowed(self, chosen: Filter | None) -> list[Mask | None]:
        """For each segment the passages that are alive and pass the filter; None means all."""
        if is_empty(chosen) or chosen is None:
            return self._all_alive
        masks: list[Mask | None] = []
        for segment in self.segments:
            mask = segment.rows_of(segment.store.matching(chosen))
            masks.append(mask if segment.alive is None else mask & segment.alive)
        return masks

    def search(
        self,
        name: str,
        query: QueryVector,
        limit: int,
        allowed: Sequence[Mask | None],
        mode: SparseMode = "auto",
    ) -> Ranking:
        """The best passage of each of the `limit` best documents, filters applied inside.

        `mode` says how impact postings are searched (see `indexes.sparse_search`). Where several
        threads search them at once, for as many documents and without a filter, they are passed
        once for all.
        """
        if allowed is self._all_alive and mode == "auto" and self._by_impact(name):
            return self._gather(name, limit).compute(query)
        return self.search_batch(name, [query], limit, allowed, mode)[0]

    def search_batch(
        self,
        name: str,
        queries: Sequence[QueryVector],
        limit: int,
        allowed: Sequence[Mask | None],
        mode: SparseMode = "auto",
    ) -> list[Ranking]:
        """As `search`, for several queries under one filter: impact postings are passed once."""
        self.retriever(name)
        statistics = self._statistics.get(name)
        found = search_segments(self.segments, name, queries, limit, allowed, statistics, mode)
        return [Ranking(best.rows, best.scores) for best in found]

    def documents_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """A key for each row's document: passages of one document share it."""
        numbers = np.searchsorted(self._bases, rows, side="right") - 1
        keys = np.zeros(len(rows), dtype=np.int64)
        for number, segment in enumerate(self.segments):
            here = numbers == number
            keys[here] = self._bases[number] + segment.ordinals[rows[here] - self._bases[number]]
        return keys

    def ids_of(self, rows: Sequence[int]) -> list[str]:
        """Document ids of these rows: cheaper than `fetch`, no text is read."""
        if self._ids is None:
            self._ids = [segment.store.ids() for segment in self.segments]
        found = []
        for row in rows:
            number = self._segment_of(row)
            ordinal = self.segments[number].ordinals[row - int(self._bases[number])]
            found.append(self._ids[number][int(ordinal)])
        return found

    def rows_of(self, ids: Sequence[str]) -> list[Mask]:
        """For each segment the mask of the live passages of these documents."""
        masks = []
        for segment in self.segments:
            ordinals = np.array(list(segment.store.ordinals(ids).values()), dtype=np.uint32)
            mask = segment.rows_of(ordinals)
            masks.append(mask if segment.alive is None else mask & segment.alive)
        return masks

    def fetch(self, rows: Sequence[int]) -> list[Passage]:
        """The passages of these rows, in that order."""
        found: dict[int, Passage] = {}
        for number, segment in enumerate(self.segments):
            base, end = int(self._bases[number]), int(self._bases[number + 1])
            local = [row - base for row in rows if base <= row < end]
            if local:
                for row, passage in self._passages(segment, local).items():
                    found[row + base] = msgspec.structs.replace(passage, row=row + base)
        return [found[row] for row in rows]

    def _passages(self, segment: Segment, rows: Sequence[int]) -> dict[int, Passage]:
        """A segment's passages by its own rows, those that are known from memory."""
        known = self._known_passages
        if known is None:
            return segment.store.passages(rows)
        content = segment.entry.files[DOCUMENTS].sha256
        found = {row: known.get((content, row)) for row in rows}
        kept = {row: passage for row, passage in found.items() if passage is not None}
        missing = [row for row in rows if row not in kept]
        if missing:
            read = segment.store.passages(missing)
            for row, passage in read.items():
                known.put((content, row), passage)
            kept |= read
        return kept

    def matched(
        self, name: str, query: QueryVector, rows: Sequence[int]
    ) -> list[list[tuple[str, float, float]]]:
        """For each row the query's terms it holds: (term, query weight, passage weight)."""
        if query.sparse is None:
            return [[] for _ in rows]
        statistics = self._statistics.get(name)
        sparse = statistics.weigh(query.sparse) if statistics else query.sparse
        found: list[list[tuple[str, float, float]]] = [[] for _ in rows]
        for place, row in enumerate(rows):
            number = self._segment_of(row)
            postings = self.segments[number].postings[name]
            local = row - int(self._bases[number])
            for term, weight in zip(sparse.terms, sparse.weights, strict=True):
                stretch = postings.find(term)
                at = stretch.start + int(np.searchsorted(postings.rows[stretch], local))
                if at < stretch.stop and postings.rows[at] == local:
                    one = slice(at, at + 1)
                    held = statistics.impacts(number, one) if statistics else postings.weights[one]
                    found[place].append((term, weight, float(held[0])))
        return found

    def coverage(self, name: str, query: QueryVector, rows: Sequence[int]) -> list[float]:
        """For each row the share of the query's term weight that it holds, in [0, 1]."""
        if query.sparse is None or not query.sparse.terms:
            return [0.0] * len(rows)
        statistics = self._statistics.get(name)
        weights = dict(zip(query.sparse.terms, query.sparse.weights, strict=True))
        if statistics:
            weights = {term: n * statistics.rarity(term) for term, n in weights.items()}
        total = sum(weights.values())
        return [
            sum(weights[term] for term, _, _ in terms) / total
            for terms in self.matched(name, query, rows)
        ]

    def dense_scores(self, name: str, query: QueryVector, rows: Sequence[int]) -> list[float]:
        """Inner product of the query with each row's vector."""
        if query.dense is None:
            return [0.0] * len(rows)
        scores = []
        for row in rows:
            number = self._segment_of(row)
            vector = self.segments[number].vectors[name].row(row - int(self._bases[number]))
            scores.append(float(vector @ query.dense))
        return scores

    def dimension(self, name: str) -> int | None:
        """Components of a retriever's dense vectors; None while the index has no passage."""
        return next((segment.vectors[name].dimension for segment in self.segments), None)

    def are_live(self, rows: Sequence[int]) -> bool:
        """Whether these are rows of the index, and none of a deleted document."""
        for row in rows:
            if not 0 <= row < int(self._bases[-1]):
                return False
            number = self._segment_of(row)
            alive = self.segments[number].alive
            if alive is not None and not alive[row - int(self._bases[number])]:
                return False
        return True

    def document(self, key: str) -> Document:
        """The live document with this id. Raises `DocumentNotFound`."""
        for segment in self.segments:
            ordinal = segment.store.ordinals([key]).get(key)
            if ordinal is not None and ordinal not in segment.deleted:
                return segment.store.document(ordinal)
        raise DocumentNotFound(f"the index {self.manifest.name!r} has no document {key!r}")

    def live_ids(self) -> list[str]:
        """Ids of all live documents, in segment order."""
        return [
            key
            for segment in self.segments
            for key, dead in zip(segment.store.ids(), _dead(segment), strict=True)
            if not dead
        ]

    def close(self) -> None:
        """Let go of the files."""
        for segment in self.segments:
            segment.close()

    def _by_impact(self, name: str) -> bool:
        entry = self.retriever(name)
        return entry.parts == ["sparse"] and entry.weighting == "dot"

    def _gather(self, name: str, limit: int) -> Gather[QueryVector, Ranking]:
        """What gathers unfiltered searches of one kind."""
        with self._gathers_lock:
            if (name, limit) not in self._gathers:
                # Of the segments, not of the snapshot: it must go when its last reader lets go.
                work = partial(_search_together, self.segments, name, limit, self._all_alive)
                self._gathers[name, limit] = Gather(work, n_seats=N_SEATS)
            return self._gathers[name, limit]

    def _segment_of(self, row: int) -> int:
        return int(np.searchsorted(self._bases, row, side="right")) - 1

    def _bm25(self, entry: RetrieverEntry) -> Bm25Statistics:
        return Bm25Statistics(
            [segment.postings[entry.name] for segment in self.segments],
            [segment.alive for segment in self.segments],
            bm25_params(entry),
        )


def _search_together(
    segments: Sequence[Segment],
    name: str,
    limit: int,
    allowed: Sequence[Mask | None],
    queries: Sequence[QueryVector],
) -> list[Ranking]:
    found = search_segments(segments, name, queries, limit, allowed, None)
    return [Ranking(best.rows, best.scores) for best in found]


def _dead(segment: Segment) -> NDArray[np.bool_]:
    dead = np.zeros(segment.entry.n_documents, dtype=np.bool_)
    dead[segment.deleted] = True
    return dead


def _open(folder: Path, *, checksums: bool) -> tuple[Manifest, list[Segment]]:
    import duckdb

    manifest = read_manifest(folder)
    for _ in range(_ATTEMPTS):
        segments: list[Segment] = []
        try:
            for entry in manifest.segments:
                check_segment(folder, entry, checksums=checksums)
                segments.append(Segment(folder, entry, manifest.retrievers))
        except (OSError, ValueError, RuntimeError, duckdb.Error, EvidentError) as error:
            for segment in segments:
                segment.close()
            newer = read_manifest(folder)
            if newer.version == manifest.version:
                raise _corrupt(folder, manifest, error) from error
            manifest = newer
        else:
            return manifest, segments
    raise CorruptIndex(f"{folder.name!r} changes faster than it can be opened")


def _corrupt(folder: Path, manifest: Manifest, error: Exception) -> CorruptIndex:
    """The error that names the damaged file, if the checksums can tell which one that is."""
    if isinstance(error, CorruptIndex):
        return error
    try:
        for entry in manifest.segments:
            check_segment(folder, entry, checksums=True)
    except CorruptIndex as named:
        return named
    return CorruptIndex(f"a segment of {folder.name!r} cannot be opened: {error}")


def _analyzer(manifest: Manifest) -> Analyzer:
    try:
        analyzer = Analyzer(msgspec.convert(manifest.analyzer, AnalyzerConfig))
    except msgspec.ValidationError as error:
        raise CorruptIndex(f"{manifest.name!r}: unknown analyzer settings: {error}") from error
    if analyzer.fingerprint() != manifest.analyzer_sha256:
        raise CorruptIndex(
            f"{manifest.name!r} was built with another version of the analyzer: build it again"
        )
    return analyzer
