"""What retrievers hand over: representations of passages and of queries."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.uint32]
Mask = NDArray[np.bool_]


class SparseRows(msgspec.Struct, frozen=True):
    """Sparse vectors of n passages over a vocabulary of their own, in compressed rows.

    Row i holds `term_ids[indptr[i]:indptr[i + 1]]` (indices into `vocabulary`, each at most once
    a row) with `weights` beside them. `lengths` are the passages' lengths in terms, needed where
    the weights are term frequencies (BM25).
    """

    vocabulary: list[str]
    indptr: NDArray[np.int64]
    term_ids: NDArray[np.uint32]
    weights: NDArray[Any]
    lengths: NDArray[np.uint32] | None = None

    @property
    def n_rows(self) -> int:
        """Passages represented."""
        return len(self.indptr) - 1


def take_rows(vectors: SparseRows, rows: NDArray[np.int64]) -> SparseRows:
    """These rows, in this order, over the same vocabulary."""
    starts = vectors.indptr[rows]
    counts = vectors.indptr[rows + 1] - starts
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    # Entry j of the result is entry j - indptr[i] of row i.
    entries = np.arange(int(indptr[-1])) + np.repeat(starts - indptr[:-1], counts)
    return SparseRows(
        vocabulary=vectors.vocabulary,
        indptr=indptr,
        term_ids=vectors.term_ids[entries],
        weights=vectors.weights[entries],
        lengths=None if vectors.lengths is None else vectors.lengths[rows],
    )


class SparseVector(msgspec.Struct, frozen=True):
    """A query over terms: `weights[i]` belongs to `terms[i]`, each term at most once."""

    terms: list[str]
    weights: list[float]


class PassageVectors(msgspec.Struct, frozen=True):
    """What one retriever made of n passages: sparse rows, dense float32 `[n, d]`, or both."""

    sparse: SparseRows | None = None
    dense: Floats | None = None


class QueryVector(msgspec.Struct, frozen=True):
    """What one retriever made of a query: sparse, dense float32 `[d]`, or both (scores add up)."""

    sparse: SparseVector | None = None
    dense: Floats | None = None


class Ranking(msgspec.Struct, frozen=True):
    """Passages in falling order of score, ties by row: `rows` int64 `[k]`, `scores` float64."""

    rows: NDArray[np.int64]
    scores: Doubles


def top_k(scores: Doubles, limit: int) -> NDArray[np.int64]:
    """Positions of the `limit` largest scores, falling, ties by position; NaN is no match.

    Partition first, so the cost is O(n + k log k); ties at the cut go to the lowest positions.
    """
    matched = np.flatnonzero(~np.isnan(scores))
    found = scores[matched]
    if len(found) > limit:
        threshold = np.partition(found, len(found) - limit)[len(found) - limit]
        above = matched[found > threshold]
        ties = matched[found == threshold][: limit - len(above)]
        matched = np.sort(np.concatenate([above, ties]))
        found = scores[matched]
    return matched[np.argsort(-found, kind="stable")]
