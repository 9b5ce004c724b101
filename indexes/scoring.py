"""Scores of a query over segments, with filters and tombstones inside, best passage a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.bm25 import Bm25Statistics
from indexes.representation import Doubles, Floats, Mask, QueryVector, SparseVector, top_k
from indexes.segment import Segment


class Found(NamedTuple):
    """Rows (int64) in falling order of score (float64)."""

    rows: NDArray[np.int64]
    scores: Doubles


def search_segments(
    segments: Sequence[Segment],
    name: str,
    query: QueryVector,
    limit: int,
    allowed: Sequence[Mask | None],
    statistics: Bm25Statistics | None,
) -> Found:
    """The `limit` best documents over all segments, each by its best passage's global row."""
    sparse = query.sparse
    if sparse is not None and statistics is not None:
        sparse = statistics.weigh(sparse)
    parts: list[Found] = []
    base = 0
    for number, segment in enumerate(segments):
        mask = allowed[number]
        if sparse is None and query.dense is not None:
            found = _search_dense(segment, name, query.dense, limit, mask)
        else:
            scores = sparse_scores(segment, name, sparse, statistics, number)
            if query.dense is not None:
                scores = np.nan_to_num(scores) + segment.vectors[name].scores(query.dense)
            if mask is not None:
                scores[~mask] = np.nan
            found = _best_documents(segment, scores, limit)
        parts.append(Found(found.rows + base, found.scores))
        base += segment.n_passages
    return _merged(parts, limit)


def sparse_scores(
    segment: Segment,
    name: str,
    query: SparseVector | None,
    statistics: Bm25Statistics | None,
    number: int,
) -> Doubles:
    """Σ query weight · impact for each passage, float64 `[n_passages]`; NaN where no term matched.

    A match may score 0 (a term in just half the passages has an Okapi idf of 0) and still is one.
    """
    scores = np.zeros(segment.n_passages, dtype=np.float64)
    matched = np.zeros(segment.n_passages, dtype=np.bool_)
    if query is None:
        return np.full_like(scores, np.nan)
    postings = segment.postings[name]
    for term, weight in zip(query.terms, query.weights, strict=True):
        found = postings.find(term)
        if found.start == found.stop:
            continue
        held = statistics.impacts(number, found) if statistics else postings.weights[found]
        # A term lists a passage at most once, so a plain indexed add never loses a posting.
        rows = postings.rows[found]
        scores[rows] += weight * held.astype(np.float64)
        matched[rows] = True
    scores[~matched] = np.nan
    return scores


def _best_documents(segment: Segment, scores: Doubles, limit: int) -> Found:
    """Top documents by their best passage; a document's passages are consecutive rows."""
    if segment.one_passage_each:
        rows = top_k(scores, limit)
        return Found(rows, scores[rows])
    best = np.fmax.reduceat(scores, segment.starts)
    documents = top_k(best, limit)
    rows = np.array([_best_row(segment, scores, number) for number in documents], dtype=np.int64)
    return Found(rows, best[documents])


def _best_row(segment: Segment, scores: Doubles, document: int) -> int:
    last = len(segment.starts) - 1
    start = int(segment.starts[document])
    end = segment.n_passages if document == last else int(segment.starts[document + 1])
    return start + int(np.nanargmax(scores[start:end]))


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
