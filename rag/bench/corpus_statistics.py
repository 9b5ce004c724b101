"""What decides the cost of sparse search, so that synthetic corpora can be held to real ones."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from rag.bench.sparse_corpus import SparseCorpus

SAMPLE = 2_000_000
"""Weights of so many postings, evenly spread, stand for all."""


class CorpusStatistics(msgspec.Struct, frozen=True):
    """Percentiles are the 10th, 50th and 90th.

    `frequencies` are the shares of documents that hold the most frequent term, the 10th, the 100th
    and the 1000th. `postings_per_query` is Σ over a query's terms of that share: what an exhaustive
    pass reads per document, on average.
    """

    corpus: str
    n_docs: int
    n_postings: int
    doc_terms: list[float]
    query_terms: list[float]
    weights: list[float]
    frequencies: list[float]
    postings_per_query: float


def corpus_statistics(corpus: SparseCorpus) -> CorpusStatistics:
    """Count."""
    documents, queries = corpus.documents, corpus.queries
    counts = np.bincount(documents.term_ids, minlength=len(documents.vocabulary))
    shares = counts / documents.n_rows
    ranked = np.sort(shares)[::-1]
    step = max(1, len(documents.weights) // SAMPLE)
    return CorpusStatistics(
        corpus=corpus.name,
        n_docs=documents.n_rows,
        n_postings=len(documents.term_ids),
        doc_terms=_percentiles(np.diff(documents.indptr)),
        query_terms=_percentiles(np.diff(queries.indptr)),
        weights=_percentiles(documents.weights[::step]),
        frequencies=_rounded([ranked[min(n, len(ranked)) - 1] for n in (1, 10, 100, 1000)]),
        postings_per_query=round(float(shares[queries.term_ids].sum() / queries.n_rows), 3),
    )


def table(found: Sequence[CorpusStatistics]) -> list[str]:
    """Lines for people."""
    head = ("corpus", "documents", "terms each", "query's", "weights", "frequencies", "postings/q")
    layout = "{:18}{:>10}  {:15}{:13}{:17}{:27}{:>10}"
    return [
        layout.format(*head),
        *(
            layout.format(
                one.corpus,
                one.n_docs,
                "/".join(f"{n:.0f}" for n in one.doc_terms),
                "/".join(f"{n:.0f}" for n in one.query_terms),
                "/".join(f"{n:.2f}" for n in one.weights),
                "/".join(f"{n:.3f}" for n in one.frequencies),
                f"{one.postings_per_query:.2f}",
            )
            for one in found
        ),
    ]


def _percentiles(values: ArrayLike) -> list[float]:
    return _rounded(np.percentile(np.asarray(values, np.float64), [10, 50, 90]).tolist())


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) for value in values]
