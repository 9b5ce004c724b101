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
    query: QueryVector,
    limit: int,
    allowed: Sequence[Mask | None],
    statistics: Bm25Statistics | None,
    mode: SparseMode = "auto",
) -> Found:
    """The `limit` best documents over all segments, each by its best passage's global row."""
    if statistics is not None and query.sparse is not None:
        query = QueryVector(sparse=statistics.weigh(query.sparse), dense=query.dense)
    parts: list[Found] = []
    base = 0
    for number, segment in enumerate(segments):
        found = _search_segment(
            segment, number, name, query, limit, allowed[number], statistics, mode
        )
        parts.append(Found(found.rows + base, found.scores))
        base += segment.n_passages
    return _merged(parts, limit)


def _search_segment(
    segment: Segment,
    number: int,
    name: str,
    query: QueryVector,
    limit: int,
    allowed: Mask | None,
    statistics: Bm25Statistics | None,
    mode: SparseMode,
) -> Found:
    sparse, dense = query.sparse, query.dense
    if sparse is None:
        if dense is None:
            return Found(np.zeros(0, np.int64), np.zeros(0, np.float64))
        return _search_dense(segment, name, dense, limit, allowed)
    if statistics is not None:
        scores = bm25_scores(segment, name, sparse, statistics, number)
        return best_matches(segment, scores, allowed, limit)
    if dense is None:
        return search_postings(segment, name, sparse, limit, allowed, mode)
    # Adding to 0.0 makes every passage a match: with a dense part each has a score.
    scores = 0.0 + impact_scores(segment, name, sparse) + segment.vectors[name].scores(dense)
    return best_matches(segment, scores + 0.0, allowed, limit)


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
    rows = np.concatenate([part.rows for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    order = np.lexsort((rows, -scores))[:limit]
    return Found(rows[order], scores[order])
