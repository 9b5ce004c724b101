"""Impacts by passage: to score a few passages in full, only their own terms are read.

Files, for a retriever called `name`: `forward_indptr`, `forward_terms`, numbers of terms as in the
postings, ascending in a passage, in 16 bits where that is enough, and `forward_weights`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.kernels import by_row, score_rows
from indexes.postings import Postings, file_of, mapped
from indexes.representation import Doubles, Floats

_PARTS = ("indptr", "terms", "weights")


class Forward:
    """One retriever's impacts by passage in one segment; arrays are views of mapped files."""

    def __init__(self, folder: Path, name: str, n_terms: int) -> None:
        indptr, terms, weights = (mapped(_file(folder, name, part)) for part in _PARTS)
        self.indptr: NDArray[np.int64] = indptr
        self.terms: NDArray[Any] = terms
        self.weights: Floats = weights
        self._n_terms = n_terms

    def scores(
        self, numbers: NDArray[np.int64], weights: Doubles, rows: NDArray[np.int64]
    ) -> Doubles:
        """Σ query weight · impact of each row, float64; -0.0 where no term of the query is in.

        `numbers` are the query's terms, each once, and `weights` theirs.
        """
        return score_rows(
            self.indptr, self.terms, self.weights, numbers, weights, self._n_terms, rows
        )


def write_forward(folder: Path, name: str, n_rows: int) -> None:
    """Add the impacts by passage to freshly written postings of `n_rows` passages."""
    postings = Postings(folder, name)
    kind = np.uint16 if postings.n_terms <= 1 << 16 else np.uint32
    indptr = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(postings.rows, minlength=n_rows), out=indptr[1:])
    terms = np.empty(len(postings.rows), dtype=kind)
    weights = np.empty(len(postings.rows), dtype=np.float32)
    by_row(postings.indptr, postings.rows, postings.weights, indptr, terms, weights)
    for part, array in zip(_PARTS, (indptr, terms, weights), strict=True):
        np.save(_file(folder, name, part), array)


def _file(folder: Path, name: str, part: str) -> Path:
    return file_of(folder, name, f"forward_{part}")
