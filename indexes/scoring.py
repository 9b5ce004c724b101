"""Scores of a query over segments, with filters and tombstones inside, best passage a document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from indexes.bm25 import Bm25Statistics
from indexes.representation import Floats, Mask, QueryVector
from indexes.segment import Segment
from indexes.sparse_search import (
    Found,
    SparseMode,
    best_matches,
    bm25_scores,
    impact_scores,
    search_postings,
)


def search_segments(
    segments: Sequence[Segment],
    name: str,
    queries: Sequence[QueryVector],
    limit: int,
    allowed: Sequence[Mask | None],
    statistics: Bm25Statistics | None,
    mode: SparseMode = "auto",
) -> list[Found]:
    """For each query the `limit` best documents over all segments, by their best passages' rows.

    Rows are numbered over all segments.
    """
    if statistics is not None:
        queries = [_weighed(query, statistics) for query in queries]
    parts: list[list[Found]] = [[] for _ in queries]
    base = 0
    for number, segment in enumerate(segments):
        searched = _search_segment(
            segment, number, name, queries, limit, allowed[number], statistics, mode
        )
        for part, found in zip(parts, searched, strict=True):
            part.append(Found(found.rows + base, found.scores))
        base += segment.n_passages
    return [_merged(part, limit) for part in parts]


def _weighed(query: QueryVector, statistics: Bm25Statistics) -> QueryVector:
    if query.sparse is None:
        return query
    return QueryVector(sparse=statistics.weigh(query.sparse), dense=query.dense)


def _search_segment(
    segment: Segment,
    number: int,
    name: str,
    queries: Sequence[QueryVector],
    limit: int,
    allowed: Mask | None,
    statistics: Bm25Statistics | None,
    mode: SparseMode,
) -> list[Found]:
    # A retriever's queries are all of one kind.
    sparse = [query.sparse for query in queries if query.sparse is not None and query.dense is None]
    if statistics is None and len(sparse) == len(queries):
        return search_postings(segment, name, sparse, limit, allowed, mode)
    return [
        _search_one(segment, number, name, query, limit, allowed, statistics) for query in queries
    ]


def _search_one(
    segment: Segment,
    number: int,
    name: str,
    query: QueryVector,
    limit: int,
    allowed: Mask | None,
    statistics: Bm25Statistics | None,
) -> Found:
    """By BM25, by a dense vector, or by both parts of a vector."""
    sparse, dense = query.sparse, query.dense
    if sparse is None:
        if dense is None:
            return Found(np.zeros(0, np.int64), np.zeros(0, np.float64))
        return _search_dense(segment, name, dense, limit, allowed)
    if statistics is not None:
        scores = bm25_scores(segment, name, sparse, statistics, number)
        return best_matches(segment, scores, allowed, limit)
    scores = impact_scores(segment, name, sparse)
    if dense is not None:
        # Adding to 0.0 makes every passage a match: with a dense part each has a score.
        scores = 0.0 + scores + segment.vectors[name].scores(dense) + 0.0
    return best_matches(segment, scores, allowed, limit)


def _search_dense(
    segment: Segment, name: str, query: Floats, limit: int, mask: Mask | None
) -> Found:
    """FAISS top passages, asked for more until `limit` documents are among them."""
    vectors = segment.vectors[name]
    n_allowed = segment.n_passages if mask is None else int(mask.sum())
    wanted = limit
    while True:
        rows, scores = vectors.search(query, wanted, mask)
        if segment.one_passage_each:
            return Found(rows, scores)
        _, first = np.unique(segment.ordinals[rows], return_index=True)
        if len(first) >= limit or wanted >= n_allowed:
            kept = np.sort(first)[:limit]
            return Found(rows[kept], scores[kept])
        wanted *= 4


def _merged(parts: Sequence[Found], limit: int) -> Found:
    if not parts:
        return Found(np.zeros(0, np.int64), np.zeros(0, np.float64))
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([part.rows for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    order = np.lexsort((rows, -scores))[:limit]
    return Found(rows[order], scores[order])
