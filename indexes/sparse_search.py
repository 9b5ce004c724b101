"""Searching one segment's postings, term at a time: exactly, or in two steps.

A first pass over 8-bit levels (see `indexes.layers`) picks candidates, whose scores are then
computed in full: float64 sums over the impacts as they are. In the mode "exact" what the pass can
be wrong by proves that nothing was missed; where it does not, a surer pass is made, in the end over
every passage in full. In a segment of many passages the first one leaves out layers that would cost
more than they can matter. In "two_step" (after Lassance et al. 2024,
Two-Step SPLADE) the pass spends a budget of postings on the layers that can matter most, so that
its time is bounded whatever the query: approximate. In "u8" the pass reads all and has the last
word. Filters and deletions are inside every pass, and scores are exact in every mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate as accumulated
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.bm25 import Bm25Statistics
from indexes.full_scores import best_in_full
from indexes.kernels import accumulate, best_documents, best_rows
from indexes.layer_search import search_layers
from indexes.postings import Postings
from indexes.representation import Doubles, Mask, SparseVector
from indexes.segment import Segment

SparseMode = Literal["auto", "exact", "two_step", "u8"]

TWO_STEP_ROWS = 1_000_000
"""Segments with as many passages are searched in two steps unless told otherwise."""

PRUNED_ROWS = 1 << 16
"""Exact searches of segments with as many passages first leave out what is likely not needed."""


class FirstPass(NamedTuple):
    """How a pass picks candidates: `times` the limit and `more`.

    It reads `budget` postings for each passage of the segment, and `share` of the query's, at most.
    """

    times: int
    more: int
    budget: float = math.inf
    share: float = 1.0


PASSES = {
    "exact": FirstPass(times=2, more=24),
    "pruned": FirstPass(times=4, more=60, share=0.7),
    "two_step": FirstPass(times=4, more=60, budget=1.0),
    "u8": FirstPass(times=2, more=4),
}
"""By mode; "pruned" is what an exact search of many passages begins with."""

_EVERY_ROW = np.zeros(0, np.bool_)
_ROWS_APART = np.zeros(0, np.uint32)


class Found(NamedTuple):
    """Rows (int64) in falling order of score (float64)."""

    rows: NDArray[np.int64]
    scores: Doubles


class _Terms(NamedTuple):
    """The query's terms that the segment has, and their query weights."""

    numbers: NDArray[np.int64]
    weights: Doubles


def search_postings(
    segment: Segment,
    name: str,
    queries: Sequence[SparseVector],
    limit: int,
    allowed: Mask | None,
    mode: SparseMode = "auto",
) -> list[Found]:
    """For each query the `limit` best documents by the sparse product, each by its best passage.

    For impacts above 0 (weighting "dot"); a passage that no query term is in is no match. Several
    queries share one pass over the segment.
    """
    postings = segment.postings[name]
    terms = [_known_terms(postings, query) for query in queries]
    limit = min(limit, segment.entry.n_documents)
    if name not in segment.layers or not limit or not queries:
        return [_in_full(segment, name, one, limit, allowed) for one in terms]
    if mode == "auto":
        mode = "two_step" if segment.n_passages >= TWO_STEP_ROWS else "exact"
    if allowed is not None and np.count_nonzero(allowed) <= _wanted(segment, limit, mode):
        few = np.flatnonzero(allowed)
        return [_best_of(segment, name, one, few, limit) for one in terms]
    many = segment.n_passages >= PRUNED_ROWS
    way = "pruned" if mode == "exact" and many else mode
    return _by_layers(segment, name, terms, limit, allowed, way)


def _wanted(segment: Segment, limit: int, way: str) -> int:
    """Candidates of a first pass."""
    if way == "u8" and segment.one_passage_each:
        return limit
    return PASSES[way].times * limit + PASSES[way].more


def _by_layers(
    segment: Segment,
    name: str,
    terms: Sequence[_Terms],
    limit: int,
    allowed: Mask | None,
    way: str,
) -> list[Found]:
    """The best of a first pass' candidates, where that will do; else what the next surer way finds.

    For an exact result no other passage may reach the last of them.
    """
    exactly = way in {"exact", "pruned"}
    wanted = _wanted(segment, limit, way)
    forward = segment.forward[name]
    n_found, rows, scores, bounds = search_layers(
        np.array(list(accumulated(len(one.numbers) for one in terms)), np.int64),
        _end_to_end([one.numbers for one in terms]),
        _end_to_end([one.weights for one in terms]),
        segment.layers[name].arrays,
        forward.arrays,
        _ROWS_APART if segment.one_passage_each else segment.ordinals,
        segment.n_passages,
        _EVERY_ROW if allowed is None else allowed,
        limit,
        wanted,
        PASSES[way].budget * segment.n_passages,
        PASSES[way].share,
        exactly,
        forward.slots(max(len(one.numbers) for one in terms)),
    )
    best = []
    for number, (n, bound) in enumerate(zip(n_found.tolist(), bounds.tolist(), strict=True)):
        enough = scores[number, -1] > bound if exactly else bound < math.inf
        if (n == limit and enough) or bound == -math.inf:
            best.append(Found(rows[number, :n], scores[number, :n]))
        elif way == "exact":
            best.append(_in_full(segment, name, terms[number], limit, allowed))
        else:
            best += _by_layers(segment, name, [terms[number]], limit, allowed, "exact")
    return best


def _end_to_end(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _in_full(segment: Segment, name: str, terms: _Terms, limit: int, allowed: Mask | None) -> Found:
    """The plain way: every passage's score, then the best."""
    return best_matches(segment, _sums(segment, name, terms), allowed, limit)


def bm25_scores(
    segment: Segment, name: str, query: SparseVector, statistics: Bm25Statistics, number: int
) -> Doubles:
    """Σ query weight · impact for each passage, float64 `[n_passages]`; -0.0 is no match.

    A match may score 0 (a term in just half the passages has an Okapi idf of 0) and still is one.
    """
    postings = segment.postings[name]
    terms = _known_terms(postings, query)
    starts, stops = _stretches(postings, terms)
    starts, stops, rows, impacts = statistics.values(number, starts, stops)
    scores = np.full(segment.n_passages, -0.0, np.float64)
    # Adding 0.0 turns a weight of -0.0, which would leave no trace, into 0.0.
    accumulate(starts, stops, terms.weights + 0.0, rows, impacts, scores)
    return scores


def impact_scores(segment: Segment, name: str, query: SparseVector) -> Doubles:
    """The sparse product with every passage, float64 `[n_passages]`; -0.0 where no term is in."""
    return _sums(segment, name, _known_terms(segment.postings[name], query))


def _sums(segment: Segment, name: str, terms: _Terms) -> Doubles:
    postings = segment.postings[name]
    starts, stops = _stretches(postings, terms)
    scores = np.full(segment.n_passages, -0.0, np.float64)
    accumulate(starts, stops, terms.weights, postings.rows, postings.weights, scores)
    return scores


def best_matches(segment: Segment, scores: Doubles, allowed: Mask | None, limit: int) -> Found:
    """The best documents by their passages' scores; a score of -0.0 is no match."""
    rows = _best(segment, scores, allowed, min(limit, segment.entry.n_documents))
    return _ordered(rows, scores[rows])


def _best(
    segment: Segment, scores: NDArray[np.floating], allowed: Mask | None, limit: int
) -> NDArray[np.int64]:
    """The best documents' best rows, in no order."""
    if not limit:
        return np.zeros(0, np.int64)
    mask = _EVERY_ROW if allowed is None else allowed
    if segment.one_passage_each:
        rows, _ = best_rows(scores, mask, limit)
    else:
        rows, _ = best_documents(scores, mask, segment.starts, limit)
    return rows


def _best_of(
    segment: Segment, name: str, terms: _Terms, rows: NDArray[np.int64], limit: int
) -> Found:
    """The best documents among passages, scored in full; what no term is in is left out."""
    forward = segment.forward[name]
    found, scores = np.empty(limit, np.int64), np.empty(limit, np.float64)
    n = best_in_full(
        terms.numbers,
        terms.weights,
        forward.arrays,
        rows,
        _ROWS_APART if segment.one_passage_each else segment.ordinals,
        forward.slots(len(terms.numbers)),
        found,
        scores,
    )
    return Found(found[:n], scores[:n])


def _ordered(rows: NDArray[np.int64], scores: Doubles) -> Found:
    order = np.lexsort((rows, -scores))
    return Found(rows[order], scores[order])


def _known_terms(postings: Postings, query: SparseVector) -> _Terms:
    numbers = postings.numbers(query.terms)
    weights = np.array(query.weights, np.float64)
    known = numbers >= 0
    if known.all():
        return _Terms(numbers, weights)
    return _Terms(numbers[known], weights[known])


def _stretches(postings: Postings, terms: _Terms) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the terms' postings begin and end."""
    return postings.indptr[terms.numbers], postings.indptr[terms.numbers + 1]
