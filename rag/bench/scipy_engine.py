"""The product by scipy: a sparse query times the documents by term, then the best."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from rag.bench.engine import Engine, Rows
from rag.bench.exact_product import matrix
from rag.bench.sparse_corpus import SparseCorpus


def scipy_engine(corpus: SparseCorpus, limit: int) -> Engine:
    """Exact, in float32, in memory."""
    started = time.perf_counter()
    by_term = matrix(corpus.documents).T.tocsr()
    build_s = round(time.perf_counter() - started, 3)
    queries = matrix(corpus.queries)

    def search(numbers: Sequence[int]) -> list[Rows]:
        products = queries[np.asarray(numbers)] @ by_term
        found = []
        for place in range(len(numbers)):
            span = slice(products.indptr[place], products.indptr[place + 1])
            rows, scores = products.indices[span], products.data[span]
            if len(rows) > limit:
                best = np.argpartition(-scores, limit)[:limit]
                rows, scores = rows[best], scores[best]
            found.append(rows[np.argsort(-scores)].astype(np.int64))
        return found

    n_bytes = by_term.data.nbytes + by_term.indices.nbytes + by_term.indptr.nbytes
    return Engine("scipy", search, build_s, n_bytes)
