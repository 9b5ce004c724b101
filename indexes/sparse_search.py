"""Searching one segment's postings, term at a time: exactly, or in two steps.

Exact: every posting of every query term is added up in float32 over the impacts as they are.
Two steps (after Lassance et al. 2024, Two-Step SPLADE): a first pass over 8-bit impacts and only
the query terms that can matter most picks candidates; their scores are then computed in full.
Either way the scores that come back are float64 sums over the full-precision impacts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.bm25 import Bm25Statistics
from indexes.kernels import accumulate, best_documents, best_rows, rescore
from indexes.postings import Levels, Postings
from indexes.representation import Doubles, Floats, Mask, SparseVector
from indexes.segment import Segment

SparseMode = Literal["auto", "exact", "two_step"]

TWO_STEP_ROWS = 200_000
"""Segments with as many passages are searched in two steps unless told otherwise."""

FIRST_SHARE = 0.9
"""The first pass takes the terms of greatest possible product until they hold this share."""

CANDIDATES = 64
"""Candidates a first pass picks beyond four times the limit."""


class Found(NamedTuple):
    """Rows (int64) in falling order of score (float64)."""

    rows: NDArray[np.int64]
    scores: Doubles


class _Terms(NamedTuple):
    """The query's terms that the segment has: their postings and query weights."""

    numbers: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    weights: Doubles


def search_postings(
    segment: Segment,
    name: str,
    query: SparseVector,
    limit: int,
    allowed: Mask | None,
    mode: SparseMode = "auto",
) -> Found:
    """The `limit` best documents of a segment by the sparse product, each by its best passage.

    For impacts above 0 (weighting "dot"); a passage that no query term is in is no match.
    """
    postings = segment.postings[name]
    terms = _known_terms(postings, query)
    limit = min(limit, segment.entry.n_documents)
    if not len(terms.numbers) or not limit:
        return Found(np.zeros(0, np.int64), np.zeros(0, np.float64))
    two_step = mode == "two_step" or (mode == "auto" and segment.n_passages >= TWO_STEP_ROWS)
    if two_step and postings.levels is not None and postings.scales is not None:
        levels, scales = postings.levels, postings.scales
        found = _two_steps(segment, postings, levels, scales, terms, limit, allowed)
        if found is not None:
            return found
    # -0.0 marks what nothing was added to.
    scores = np.full(segment.n_passages, -0.0, np.float32)
    weights = terms.weights.astype(np.float32)
    accumulate(terms.starts, terms.stops, weights, postings.rows, postings.weights, scores)
    return _rescored(postings, terms, _best(segment, scores, allowed, limit))


def _two_steps(
    segment: Segment,
    postings: Postings,
    levels: Levels,
    scales: Floats,
    terms: _Terms,
    limit: int,
    allowed: Mask | None,
) -> Found | None:
    """As `search_postings`, approximately; None when the candidates held too few documents."""
    first = _first_pass(terms, scales)
    weights = (first.weights * scales[first.numbers]).astype(np.float32)
    scores = np.full(segment.n_passages, -0.0, np.float32)
    accumulate(first.starts, first.stops, weights, postings.rows, levels, scores)
    rows = _best(segment, scores, allowed, min(4 * limit + CANDIDATES, segment.entry.n_documents))
    found = _rescored(postings, terms, rows)
    if len(found.rows) < limit:
        return None
    return Found(found.rows[:limit], found.scores[:limit])


def _first_pass(terms: _Terms, scales: Floats) -> _Terms:
    """The terms whose greatest possible products make up `FIRST_SHARE` of all terms'."""
    bounds = terms.weights * scales[terms.numbers]
    order = np.argsort(-bounds, kind="stable")
    reached = np.cumsum(bounds[order])
    n_kept = int(np.searchsorted(reached, FIRST_SHARE * reached[-1])) + 1
    kept = np.sort(order[:n_kept])
    return _Terms(terms.numbers[kept], terms.starts[kept], terms.stops[kept], terms.weights[kept])


def bm25_scores(
    segment: Segment, name: str, query: SparseVector, statistics: Bm25Statistics, number: int
) -> Doubles:
    """Σ query weight · impact for each passage, float64 `[n_passages]`; -0.0 is no match.

    A match may score 0 (a term in just half the passages has an Okapi idf of 0) and still is one.
    """
    postings = segment.postings[name]
    terms = _known_terms(postings, query)
    stretches = [slice(*pair) for pair in zip(terms.starts, terms.stops, strict=True)]
    placed, rows, impacts = statistics.values(number, stretches)
    starts = np.array([stretch.start for stretch in placed], dtype=np.int64)
    stops = np.array([stretch.stop for stretch in placed], dtype=np.int64)
    scores = np.full(segment.n_passages, -0.0, np.float64)
    # Adding 0.0 turns a weight of -0.0, which would leave no trace, into 0.0.
    accumulate(starts, stops, terms.weights + 0.0, rows, impacts, scores)
    return scores


def impact_scores(segment: Segment, name: str, query: SparseVector) -> Doubles:
    """The sparse product with every passage, float64 `[n_passages]`; -0.0 where no term is in."""
    postings = segment.postings[name]
    terms = _known_terms(postings, query)
    scores = np.full(segment.n_passages, -0.0, np.float64)
    accumulate(terms.starts, terms.stops, terms.weights, postings.rows, postings.weights, scores)
    return scores


def best_matches(segment: Segment, scores: Doubles, allowed: Mask | None, limit: int) -> Found:
    """The best documents by their passages' scores; a score of -0.0 is no match."""
    rows = _best(segment, scores, allowed, min(limit, segment.entry.n_documents))
    return _ordered(rows, scores[rows])


def _best(
    segment: Segment, scores: NDArray[np.floating], allowed: Mask | None, limit: int
) -> NDArray[np.int64]:
    """The best documents' best rows, in no order."""
    mask = np.zeros(0, np.bool_) if allowed is None else allowed
    if segment.one_passage_each:
        rows, _ = best_rows(scores, mask, limit)
    else:
        rows, _ = best_documents(scores, mask, segment.starts, limit)
    return rows


def _rescored(postings: Postings, terms: _Terms, rows: NDArray[np.int64]) -> Found:
    """The rows with exact scores, in order."""
    wanted = np.sort(rows)
    scores = rescore(
        terms.starts, terms.stops, terms.weights, postings.rows, postings.weights, wanted
    )
    return _ordered(wanted, scores)


def _ordered(rows: NDArray[np.int64], scores: Doubles) -> Found:
    order = np.lexsort((rows, -scores))
    return Found(rows[order], scores[order])


def _known_terms(postings: Postings, query: SparseVector) -> _Terms:
    numbers = postings.numbers(query.terms)
    known = numbers >= 0
    numbers = numbers[known]
    weights = np.array(query.weights, dtype=np.float64)[known]
    return _Terms(numbers, postings.indptr[numbers], postings.indptr[numbers + 1], weights)
