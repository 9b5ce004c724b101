"""BM25 (Okapi) over term-frequency postings, equal to rank-bm25's `BM25Okapi`.

    score(q, d) = Σ_t qtf(t) · idf(t) · impact(t, d)
    impact(t, d) = tf · (k1 + 1) / (tf + k1 · (1 − b + b · |d| / avgdl))
    idf(t) = ln((N − df + 0.5) / (df + 0.5)), and where that is negative ε · mean idf

(Robertson and Zaragoza 2009, with rank-bm25's floor, ε = 0.25.) N, df and avgdl are those of the
live passages of the whole snapshot, so scores do not depend on how an index was cut into segments
nor on what was deleted. Impacts are computed when a segment is written, with its own avgdl; they
serve while that is also the snapshot's, which it is after a batch build or a compaction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.postings import REMEMBERED, Postings, file_of
from indexes.representation import Doubles, Mask, Rows, SparseVector

EPSILON = 0.25
"""rank-bm25's share of the mean idf given to terms that more than half the passages hold."""


class Bm25Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`k1` saturates the term frequency, `b` weighs the passage length."""

    k1: float = 0.9
    b: float = 0.4


def impact(
    frequencies: NDArray[Any], lengths: NDArray[Any], avgdl: float, params: Bm25Params
) -> Doubles:
    """The document's side of the score, float64, elementwise over postings."""
    tf = frequencies.astype(np.float64)
    norm = params.k1 * (1 - params.b + params.b * lengths.astype(np.float64) / avgdl)
    weights: Doubles = tf * (params.k1 + 1) / (tf + norm)
    return weights


def write_impacts(folder: Path, name: str, params: Bm25Params) -> None:
    """Add the `impacts` file to freshly written postings."""
    postings = Postings(folder, name)
    if postings.lengths is None or not len(postings.rows):
        return
    lengths = postings.lengths[postings.rows]
    values = impact(postings.weights, lengths, average_length([postings], [None]), params)
    np.save(file_of(folder, name, "impacts"), values.astype(np.float32))


def average_length(segments: Sequence[Postings], alive: Sequence[Mask | None]) -> float:
    """Mean length in terms of the live passages; 1 when there is none, so nothing divides by 0."""
    total = n_live = 0
    for postings, mask in zip(segments, alive, strict=True):
        if postings.lengths is not None:
            live = postings.lengths if mask is None else postings.lengths[mask]
            total += int(live.sum(dtype=np.int64))
            n_live += len(live)
    return total / n_live if total else 1.0


class Bm25Statistics:
    """N, avgdl and idf of one snapshot. `alive[i]` masks segment i's passages; None is all."""

    def __init__(
        self, segments: Sequence[Postings], alive: Sequence[Mask | None], params: Bm25Params
    ) -> None:
        self.params = params
        self._segments = segments
        self._alive = alive
        self.avgdl = average_length(segments, alive)
        self.n_live = sum(
            _n_rows(postings) if mask is None else int(mask.sum())
            for postings, mask in zip(segments, alive, strict=True)
        )
        self._mean_idf: float | None = None
        self._idf: dict[str, float] = {}
        own = [average_length([postings], [None]) for postings in segments]
        self._fresh = [length == self.avgdl for length in own]

    def document_frequency(self, term: str) -> int:
        """Live passages that hold the term."""
        return sum(
            _count(postings, postings.find(term), mask)
            for postings, mask in zip(self._segments, self._alive, strict=True)
        )

    def idf(self, term: str) -> float:
        """Inverse document frequency with rank-bm25's floor; 0 for a term nobody holds."""
        known = self._idf.get(term)
        if known is None:
            known = self._computed_idf(term)
            if len(self._idf) < REMEMBERED:
                self._idf[term] = known
        return known

    def _computed_idf(self, term: str) -> float:
        frequency = self.document_frequency(term)
        if frequency == 0:
            return 0.0
        raw = _raw_idf(self.n_live, frequency)
        return raw if raw >= 0 else EPSILON * self._mean()

    def weigh(self, query: SparseVector) -> SparseVector:
        """Query term frequencies → query weights: frequency times idf."""
        pairs = zip(query.terms, query.weights, strict=True)
        return SparseVector(query.terms, [count * self.idf(term) for term, count in pairs])

    def rarity(self, term: str) -> float:
        """ln(1 + (N − df + 0.5) / (df + 0.5)): like idf, yet positive for any term, held or not."""
        frequency = self.document_frequency(term)
        return math.log1p((self.n_live - frequency + 0.5) / (frequency + 0.5))

    def impacts(self, number: int, found: slice) -> NDArray[Any]:
        """Impacts of a stretch of segment `number`'s postings under the live avgdl."""
        postings = self._segments[number]
        if self._fresh[number] and postings.impacts is not None:
            return postings.impacts[found]
        if postings.lengths is None:
            return postings.weights[found]
        lengths = postings.lengths[postings.rows[found]]
        return impact(postings.weights[found], lengths, self.avgdl, self.params)

    def values(
        self, number: int, starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Rows, NDArray[Any]]:
        """Segment `number`'s postings of some terms: (starts, stops, rows, live impacts)."""
        postings = self._segments[number]
        if self._fresh[number] and postings.impacts is not None:
            return starts, stops, postings.rows, postings.impacts
        terms = [slice(*pair) for pair in zip(starts, stops, strict=True)]
        ends = np.cumsum(stops - starts)
        rows = [postings.rows[term] for term in terms]
        impacts = [self.impacts(number, term) for term in terms]
        return (
            ends - (stops - starts),
            ends,
            np.concatenate(rows) if rows else np.zeros(0, np.uint32),
            np.concatenate(impacts).astype(np.float32) if impacts else np.zeros(0, np.float32),
        )

    def _mean(self) -> float:
        """Mean raw idf over the live vocabulary: needed only by terms in over half the passages."""
        if self._mean_idf is None:
            frequencies: dict[str, int] = {}
            for postings, mask in zip(self._segments, self._alive, strict=True):
                for term, count in zip(postings.vocabulary(), _counts(postings, mask), strict=True):
                    if count:
                        frequencies[term] = frequencies.get(term, 0) + int(count)
            idfs = [_raw_idf(self.n_live, frequency) for frequency in frequencies.values()]
            self._mean_idf = math.fsum(idfs) / len(idfs)
        return self._mean_idf


def _raw_idf(n_live: int, frequency: int) -> float:
    return math.log(n_live - frequency + 0.5) - math.log(frequency + 0.5)


def _n_rows(postings: Postings) -> int:
    return 0 if postings.lengths is None else len(postings.lengths)


def _count(postings: Postings, found: slice, mask: Mask | None) -> int:
    return found.stop - found.start if mask is None else int(mask[postings.rows[found]].sum())


def _counts(postings: Postings, mask: Mask | None) -> NDArray[np.int64]:
    """Live passages of each term, in vocabulary order."""
    if mask is None:
        return np.diff(postings.indptr)
    running = np.concatenate([[0], np.cumsum(mask[postings.rows], dtype=np.int64)])
    counts: NDArray[np.int64] = np.diff(running[postings.indptr])
    return counts
