"""What an index holds already: representations of documents that a new build meets again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.document_store import StoredDocument
from indexes.manifest import Manifest, RetrieverEntry
from indexes.postings import concatenate, revert
from indexes.representation import PassageVectors, SparseRows, take_rows
from indexes.segment import Segment


class Place(NamedTuple):
    """Where a document's passages lie: rows `first` to `first + n_rows` of a segment."""

    segment: int
    first: int
    n_rows: int


class Held:
    """The representations of a committed index, found by a document's content hash.

    They serve a build whose analyzer and passages are the index's: then the same document is cut
    the same way, and an equal retriever entry (model, its SHA-256, settings) means equal vectors.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._entries = {entry.name: entry for entry in manifest.retrievers}
        self._segments = [
            Segment(folder, entry, manifest.retrievers) for entry in manifest.segments
        ]
        self._forward: dict[tuple[int, str], SparseRows] = {}
        self._places = {
            sha256: Place(number, int(segment.starts[ordinal]), n_rows)
            for number, segment in enumerate(self._segments)
            for ordinal, (sha256, n_rows) in enumerate(
                zip(segment.store.all_hashes(), segment.passages_of, strict=True)
            )
        }

    def holds(self, entry: RetrieverEntry) -> bool:
        """Whether this very retriever is among the index's."""
        return self._entries.get(entry.name) == entry

    def place(self, stored: StoredDocument) -> Place | None:
        """Where the document lies; None when it is new or was cut otherwise."""
        found = self._places.get(stored.sha256)
        return found if found is not None and found.n_rows == len(stored.spans) else None

    def vectors(self, name: str, places: Sequence[Place]) -> PassageVectors:
        """One retriever's representations of these documents' passages, in their order."""
        sparse, dense = [], []
        rows = [np.arange(place.first, place.first + place.n_rows) for place in places]
        numbers = np.repeat([place.segment for place in places], [len(part) for part in rows])
        local = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        order: list[NDArray[np.int64]] = []
        for number, segment in enumerate(self._segments):
            here = np.flatnonzero(numbers == number)
            if not len(here):
                continue
            order.append(here)
            if name in segment.postings:
                sparse.append(take_rows(self._forward_of(number, name), local[here]))
            if name in segment.vectors:
                dense.append(segment.vectors[name].rows(local[here]))
        back = np.argsort(np.concatenate(order)) if order else np.zeros(0, np.int64)
        return PassageVectors(
            sparse=take_rows(concatenate(sparse), back) if sparse else None,
            dense=np.concatenate(dense)[back] if dense else None,
        )

    def close(self) -> None:
        """Let go of the files."""
        for segment in self._segments:
            segment.close()

    def _forward_of(self, number: int, name: str) -> SparseRows:
        """A segment's postings by passage: inverted once, then kept."""
        key = (number, name)
        if key not in self._forward:
            segment = self._segments[number]
            every = np.arange(segment.n_passages)
            self._forward[key] = revert(segment.postings[name], every, segment.n_passages)
        return self._forward[key]
