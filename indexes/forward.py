"""Impacts by passage: to score a few passages in full, only their own terms are read.

Files, for a retriever called `name`: `forward_indptr`, `forward_terms`, numbers of terms as in the
postings, ascending in a passage, in 16 bits where that is enough, and `forward_weights`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.array_file import map_array
from indexes.kernels import by_row
from indexes.postings import Postings, file_of

_PARTS = ("indptr", "terms", "weights")


class Forward:
    """One retriever's impacts by passage in one segment; arrays are views of mapped files.

    `arrays` are all of them, in the order of their files above.
    """

    def __init__(self, folder: Path, name: str, n_terms: int) -> None:
        self.arrays = tuple(map_array(_file(folder, name, part)) for part in _PARTS)
        self._n_terms = n_terms

    def slots(self, n_query_terms: int) -> NDArray[Any]:
        """A zero for each term, of a kind that can count the query's terms."""
        kind = np.uint16 if n_query_terms < 1 << 16 else np.uint32
        return np.zeros(self._n_terms, kind)


def write_forward(folder: Path, name: str, n_rows: int) -> None:
    """Add the impacts by passage to freshly written postings of `n_rows` passages."""
    postings = Postings(folder, name)
    kind = np.uint16 if postings.n_terms <= 1 << 16 else np.uint32
    indptr = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(postings.rows, minlength=n_rows), out=indptr[1:])
    terms = np.empty(len(postings.rows), dtype=kind)
    weights = np.empty(len(postings.rows), dtype=np.float32)
    by_row(postings.indptr, postings.rows, postings.weights, indptr, terms, weights)
    arrays: list[NDArray[Any]] = [indptr, terms, weights]
    for part, array in zip(_PARTS, arrays, strict=True):
        np.save(_file(folder, name, part), array)


def _file(folder: Path, name: str, part: str) -> Path:
    return file_of(folder, name, f"forward_{part}")
