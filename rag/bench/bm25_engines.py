"""BM25 three ways over the same token lists: our postings, bm25s and rank-bm25."""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from indexes.analyzer import Analyzer
from indexes.bm25 import Bm25Params
from indexes.manifest import RetrieverEntry
from indexes.representation import QueryVector, SparseRows, SparseVector
from rag.bench.engine import Engine, Rows
from rag.bench.sparse_corpus import Texts
from rag.bench.sparse_index import sparse_index

PARAMS = Bm25Params()
TIE = 1e-6
_ENTRY = RetrieverEntry(
    name="bm25",
    kind="bm25",
    parts=["sparse"],
    weighting="bm25",
    params=msgspec.to_builtins(PARAMS),
)


class TokenCorpus(msgspec.Struct, frozen=True):
    """Documents and queries as lists of analysed terms."""

    name: str
    key: str
    documents: list[list[str]]
    queries: list[list[str]]


def analysed(name: str, texts: Texts) -> TokenCorpus:
    """By the product's analyser, stop words left out."""
    analyzer = Analyzer()
    documents = [analyzer.terms(text) for text in texts.documents]
    queries = [analyzer.terms(text) for text in texts.queries]
    key = hashlib.sha256(msgspec.json.encode(documents)).hexdigest()[:16]
    return TokenCorpus(name, key, documents, queries)


class OkapiScores:
    """Recall against rank-bm25: one that ties with its k-th is as good as it."""

    def __init__(self, corpus: TokenCorpus, okapi: Any, k: int) -> None:
        self._scores = [okapi.get_scores(query) for query in corpus.queries]
        self._k = k

    def recall(self, found: Sequence[Rows]) -> float:
        """Mean share of the k best found."""
        shares = []
        for scores, rows in zip(self._scores, found, strict=True):
            n_best = min(self._k, int((scores > 0).sum()))
            if n_best:
                least = np.partition(scores, len(scores) - n_best)[len(scores) - n_best]
                n_good = int((scores[np.unique(rows)] >= least * (1 - TIE)).sum())
                shares.append(min(n_good, n_best) / n_best)
        return float(np.mean(shares)) if shares else 1.0


def own_bm25(corpus: TokenCorpus, work: Path, limit: int) -> Engine:
    """Through an index on disk."""
    folder = work / f"bm25-{corpus.name}-{corpus.key}"
    index = sparse_index(folder, _ENTRY, _term_rows(corpus.documents))
    vectors = []
    for query in corpus.queries:
        counts = Counter(query)
        sparse = SparseVector(list(counts), [float(count) for count in counts.values()])
        vectors.append(QueryVector(sparse=sparse))
    snapshot = index.snapshot
    everything = snapshot.allowed(None)

    def search(numbers: Sequence[int]) -> list[Rows]:
        asked = [vectors[number] for number in numbers]
        found = snapshot.search_batch(_ENTRY.name, asked, limit, everything)
        return [ranking.rows for ranking in found]

    return Engine("evident-bm25", search, index.build_s, index.n_bytes)


def bm25s_engine(corpus: TokenCorpus, limit: int) -> Engine:
    """bm25s with compiled retrieval, one thread, Robertson's idf as in Okapi."""
    import bm25s

    started = time.perf_counter()
    index = bm25s.BM25(k1=PARAMS.k1, b=PARAMS.b, method="robertson", backend="numba")
    index.index(corpus.documents, show_progress=False)
    build_s = round(time.perf_counter() - started, 3)
    best = min(limit, len(corpus.documents))

    def search(numbers: Sequence[int]) -> list[Rows]:
        asked = [corpus.queries[number] or [""] for number in numbers]
        found = index.retrieve(asked, k=best, n_threads=1, show_progress=False)
        return [
            rows[scores > 0] for rows, scores in zip(found.documents, found.scores, strict=True)
        ]

    arrays = [index.scores[part] for part in ("data", "indices", "indptr")]
    return Engine("bm25s", search, build_s, sum(array.nbytes for array in arrays))


def rank_bm25_engine(corpus: TokenCorpus, limit: int) -> tuple[Engine, OkapiScores]:
    """rank-bm25's Okapi, and recall against it. Its bytes are those of its dictionaries alone."""
    from rank_bm25 import BM25Okapi

    started = time.perf_counter()
    okapi = BM25Okapi(corpus.documents, k1=PARAMS.k1, b=PARAMS.b)
    build_s = round(time.perf_counter() - started, 3)

    def search(numbers: Sequence[int]) -> list[Rows]:
        found = []
        for number in numbers:
            scores = okapi.get_scores(corpus.queries[number])
            best = np.argpartition(-scores, min(limit, len(scores) - 1))[:limit]
            best = best[scores[best] > 0]
            found.append(best[np.argsort(-scores[best], kind="stable")])
        return found

    n_bytes = sum(sys.getsizeof(counts) for counts in [okapi.idf, *okapi.doc_freqs])
    return Engine("rank-bm25", search, build_s, n_bytes), OkapiScores(corpus, okapi, limit)


def _term_rows(documents: Sequence[Sequence[str]]) -> SparseRows:
    """Term frequencies, as our retriever hands them to the writer."""
    counts = [Counter(terms) for terms in documents]
    numbers = {term: n for n, term in enumerate(dict.fromkeys(t for c in counts for t in c))}
    return SparseRows(
        vocabulary=list(numbers),
        indptr=np.cumsum([0, *map(len, counts)]).astype(np.int64),
        term_ids=np.array([numbers[term] for c in counts for term in c], dtype=np.uint32),
        weights=np.array([n for c in counts for n in c.values()], dtype=np.uint32),
        lengths=np.array([len(terms) for terms in documents], dtype=np.uint32),
    )
