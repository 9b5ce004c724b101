"""Dense vectors of a segment: a FAISS flat inner-product index, memory-mapped.

Flat search is exact and filters inside the scan; what it costs is one pass over the vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.representation import Doubles, Floats, Mask


def path_of(folder: Path, name: str) -> Path:
    """Where a retriever keeps its vectors."""
    return folder / f"{name}.faiss"


def write_vectors(folder: Path, name: str, vectors: Floats) -> None:
    """Write float32 `[n, d]` vectors."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    faiss.write_index(index, str(path_of(folder, name)))


class Vectors:
    """One retriever's vectors in one segment."""

    def __init__(self, folder: Path, name: str) -> None:
        import faiss

        self._faiss: Any = faiss
        self._index: Any = faiss.read_index(str(path_of(folder, name)), faiss.IO_FLAG_MMAP_IFC)

    @property
    def n_rows(self) -> int:
        """Vectors held."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return int(self._index.d)

    def search(self, query: Floats, limit: int, allowed: Mask | None) -> tuple[Any, Doubles]:
        """The `limit` rows of largest inner product among the allowed: (rows int64, scores)."""
        limit = min(limit, self.n_rows if allowed is None else int(allowed.sum()))
        if limit == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.float64)
        params = None
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            selector = self._faiss.IDSelectorBitmap(len(bits), self._faiss.swig_ptr(bits))
            params = self._faiss.SearchParameters(sel=selector)
        scores, rows = self._index.search(query[None, :], limit, params=params)
        found = rows[0] >= 0  # FAISS pads with -1: never let that index the last row
        return rows[0][found], scores[0][found].astype(np.float64)

    def scores(self, query: Floats) -> Doubles:
        """Inner products with every row, float64 `[n]`: for retrievers that add a sparse part."""
        asked = np.ascontiguousarray(query, dtype=np.float32)
        products = np.empty(self.n_rows, dtype=np.float32)
        if self.n_rows:
            # Straight over the mapped file, as FAISS's own search goes: no copy of the vectors.
            self._faiss.fvec_inner_products_ny(
                self._faiss.swig_ptr(products),
                self._faiss.swig_ptr(asked),
                self._index.get_xb(),
                self.dimension,
                self.n_rows,
            )
        return products.astype(np.float64)

    def row(self, number: int) -> Floats:
        """One vector, float32 `[d]`."""
        vector: Floats = self._index.reconstruct(number)
        return vector

    def rows(self, numbers: NDArray[np.int64]) -> Floats:
        """Some vectors, float32 `[len(numbers), d]`, a copy."""
        found: Floats = self._index.reconstruct_batch(numbers.astype(np.int64))
        return found

    def matrix(self) -> Floats:
        """All vectors, float32 `[n, d]`, a copy."""
        if self.n_rows == 0:
            return np.zeros((0, self.dimension), np.float32)
        rows: Floats = self._index.reconstruct_n(0, self.n_rows)
        return rows
