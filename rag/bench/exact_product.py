"""What an engine should have found: scipy's product in float64, and recall against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.representation import Doubles, SparseRows

CHUNK = 1 << 15
"""Documents multiplied at a time."""

TIE = 1e-6
"""Scores closer than this share count as tied: engines add up in float32 and in other orders."""


class ExactProduct(msgspec.Struct, frozen=True):
    """Enough of all scores to judge any ranking.

    `least[q]` is query q's k-th best score, or the last above 0 where fewer are; `n_best[q]` how
    many documents are asked for: k, or fewer. `documents` and `queries` are the factors, float64.
    """

    documents: SparseRows
    queries: Any
    least: Doubles
    n_best: NDArray[np.int64]

    def recall(self, found: Sequence[NDArray[np.int64]]) -> float:
        """Mean share of the k best found; one that ties with the k-th is as good as it."""
        shares = []
        for query, rows in enumerate(found):
            if not self.n_best[query]:
                continue
            scores = self._scores(query, np.unique(rows))
            n_good = int((scores >= self.least[query] * (1 - TIE)).sum())
            shares.append(min(n_good, int(self.n_best[query])) / int(self.n_best[query]))
        return float(np.mean(shares)) if shares else 1.0

    def _scores(self, query: int, rows: NDArray[np.int64]) -> Doubles:
        weights = self.queries[query].toarray()[0]
        scores = np.zeros(len(rows))
        for place, row in enumerate(rows):
            span = slice(int(self.documents.indptr[row]), int(self.documents.indptr[row + 1]))
            scores[place] = self.documents.weights[span] @ weights[self.documents.term_ids[span]]
        return scores


def exact_product(documents: SparseRows, queries: SparseRows, k: int) -> ExactProduct:
    """Multiply. Memory: a chunk of documents and its scores for all queries."""
    factors = matrix(queries).astype(np.float64)
    best = np.zeros((queries.n_rows, 0))
    for start in range(0, documents.n_rows, CHUNK):
        stop = min(start + CHUNK, documents.n_rows)
        scores = (factors @ matrix(documents, start, stop).T).toarray()
        best = np.concatenate([best, scores], axis=1)
        if best.shape[1] > k:
            best = np.partition(best, best.shape[1] - k, axis=1)[:, -k:]
    best.sort(axis=1)
    n_best = (best > 0).sum(axis=1)
    least = best[np.arange(len(best)), best.shape[1] - np.maximum(n_best, 1)]
    return ExactProduct(documents, factors, least, n_best)


def matrix(rows: SparseRows, start: int = 0, stop: int | None = None) -> Any:
    """Rows as a scipy CSR matrix; for all rows nothing but the row pointers is copied."""
    from scipy.sparse import csr_matrix

    last = rows.n_rows if stop is None else stop
    indptr = rows.indptr[start : last + 1]
    span = slice(int(indptr[0]), int(indptr[-1]))
    parts = (rows.weights[span], rows.term_ids[span].view(np.int32), indptr - indptr[0])
    return csr_matrix(parts, shape=(last - start, len(rows.vocabulary)))
