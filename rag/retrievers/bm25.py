"""BM25: term frequencies now, statistics of the live index at query time (see `indexes.bm25`)."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from indexes.analyzer import Analyzer
from indexes.bm25 import Bm25Params
from indexes.errors import UsageError
from indexes.manifest import RetrieverEntry
from indexes.representation import PassageVectors, QueryVector, SparseRows, SparseVector
from rag.retrievers.retriever import EncodedQuery, RetrieverSpec

REPORT_EVERY = 64


class Bm25Retriever:
    """Analyses text with the index's one analyzer."""

    def __init__(self, entry: RetrieverEntry, analyzer: Analyzer) -> None:
        self.entry = entry
        self._analyzer = analyzer

    def encode_passages(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> PassageVectors:
        """Term frequencies and lengths of each passage."""
        numbers: dict[str, int] = {}
        term_ids, frequencies = array("I"), array("I")
        indptr, lengths = [0], []
        for place, text in enumerate(texts, start=1):
            terms = self._analyzer.terms(text)
            counts = Counter(terms)
            term_ids.extend(numbers.setdefault(term, len(numbers)) for term in counts)
            frequencies.extend(counts.values())
            indptr.append(len(term_ids))
            lengths.append(len(terms))
            if place % REPORT_EVERY == 0:
                on_done(REPORT_EVERY)
        on_done(len(texts) % REPORT_EVERY)
        rows = SparseRows(
            vocabulary=list(numbers),
            indptr=np.array(indptr, dtype=np.int64),
            term_ids=np.array(term_ids, dtype=np.uint32),
            weights=np.array(frequencies, dtype=np.uint32),
            lengths=np.array(lengths, dtype=np.uint32),
        )
        return PassageVectors(sparse=rows)

    def encode_queries(self, queries: Sequence[str]) -> list[EncodedQuery]:
        """Term frequencies of each query; the index turns them into weights."""
        encoded = []
        for query in queries:
            counts = Counter(self._analyzer.terms(query))
            vector = SparseVector(list(counts), [float(count) for count in counts.values()])
            encoded.append(EncodedQuery(QueryVector(sparse=vector)))
        return encoded


def bm25_entry(spec: RetrieverSpec) -> RetrieverEntry:
    """The manifest's entry of a BM25 retriever. Raises `UsageError` for unknown settings."""
    try:
        params = msgspec.convert(spec.params, Bm25Params)
    except msgspec.ValidationError as error:
        raise UsageError(f"retriever {spec.name!r}: {error}") from error
    return RetrieverEntry(
        name=spec.name,
        kind="bm25",
        parts=["sparse"],
        weighting="bm25",
        params=msgspec.to_builtins(params),
    )
