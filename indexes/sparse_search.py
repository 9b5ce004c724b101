"""Searching one segment's postings, term at a time: exactly, or in two steps.

A first pass over 8-bit levels (see `indexes.layers`) picks candidates, whose scores are then
computed in full: float64 sums over the impacts as they are. In the mode "exact" the pass adds up
all postings of all query terms, and what levels can be wrong by proves that nothing was missed;
where it does not, every passage is scored in full. In "two_step" (after Lassance et al. 2024,
Two-Step SPLADE) the pass spends a budget of postings on the layers that can matter most, so that
its time is bounded whatever the query: approximate. In "u8" the pass reads all and has the last
word. Filters and deletions are inside every pass, and scores are exact in every mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.bm25 import Bm25Statistics
from indexes.kernels import accumulate, best_documents, best_rows
from indexes.layers import Layers, best_by_level, depths_within
from indexes.postings import Postings
from indexes.representation import Doubles, Floats, Mask, SparseVector
from indexes.segment import Segment

SparseMode = Literal["auto", "exact", "two_step", "u8"]

TWO_STEP_ROWS = 1_000_000
"""Segments with as many passages are searched in two steps unless told otherwise."""


class FirstPass(NamedTuple):
    """How a mode picks candidates: `times` the limit and `more`, from `budget` postings.

    The budget is per passage of the segment.
    """

    times: int
    more: int
    budget: float


PASSES = {
    "exact": FirstPass(times=2, more=24, budget=math.inf),
    "two_step": FirstPass(times=4, more=60, budget=1.0),
    "u8": FirstPass(times=2, more=4, budget=math.inf),
}

_EPSILON = 2.0**-23
_EVERY_ROW = np.zeros(0, np.bool_)


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


class _Candidates(NamedTuple):
    """A first pass's rows in falling order of their sums, and the sum no other row exceeds."""

    rows: NDArray[np.int64]
    sums: Floats
    beyond: float


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
    if name not in segment.layers or not limit:
        return [_in_full(segment, name, one, limit, allowed) for one in terms]
    if mode == "auto":
        mode = "two_step" if segment.n_passages >= TWO_STEP_ROWS else "exact"
    wanted = _wanted(segment, limit, mode)
    if allowed is not None and np.count_nonzero(allowed) <= wanted:
        few = np.flatnonzero(allowed)
        return [_best_of(segment, name, one, few, limit) for one in terms]
    passed = _first_pass(segment, name, terms, wanted, allowed, PASSES[mode].budget)
    return [
        _settled(segment, name, one, candidates, limit, allowed, mode)
        for one, candidates in zip(terms, passed, strict=True)
    ]


def _wanted(segment: Segment, limit: int, mode: SparseMode) -> int:
    """Candidates of a first pass."""
    if mode == "u8" and segment.one_passage_each:
        return limit
    return PASSES[mode].times * limit + PASSES[mode].more


def _first_pass(
    segment: Segment,
    name: str,
    terms: Sequence[_Terms],
    wanted: int,
    allowed: Mask | None,
    budget: float,
) -> list[_Candidates]:
    """For each query the `wanted` best passages by what `budget` postings a passage say."""
    layers = segment.layers[name]
    most = budget * segment.n_passages
    depths = [
        depths_within(one.numbers, one.weights, layers.scales, layers.counts, most) for one in terms
    ]
    found = best_by_level(
        np.cumsum([len(one.numbers) for one in terms]),
        np.concatenate([one.numbers for one in terms]),
        np.concatenate(depths),
        np.concatenate([one.weights for one in terms]),
        layers.scales,
        layers.starts,
        layers.rows,
        layers.levels,
        segment.n_passages,
        _EVERY_ROW if allowed is None else allowed,
        wanted,
    )
    candidates = []
    for rows, sums in zip(*found, strict=True):
        order = np.argsort(-sums, kind="stable")[: np.count_nonzero(rows < segment.n_passages)]
        candidates.append(_Candidates(rows[order], sums[order], float(sums.min())))
    return candidates


def _settled(
    segment: Segment,
    name: str,
    terms: _Terms,
    candidates: _Candidates,
    limit: int,
    allowed: Mask | None,
    mode: SparseMode,
) -> Found:
    """The best of the candidates if that will do; otherwise what the next surer way finds."""
    slack = _slack(terms, segment.layers[name])
    rows = _likely(segment, candidates, limit, slack) if mode == "exact" else candidates.rows
    best = _best_of(segment, name, terms, rows, limit)
    if _is_enough(mode, best, limit, candidates.beyond, slack):
        return best
    if mode == "exact":
        return _in_full(segment, name, terms, limit, allowed)
    wanted = _wanted(segment, limit, "exact")
    again = _first_pass(segment, name, [terms], wanted, allowed, math.inf)
    return _settled(segment, name, terms, again[0], limit, allowed, "exact")


def _likely(
    segment: Segment, candidates: _Candidates, limit: int, slack: float
) -> NDArray[np.int64]:
    """The candidates that may be among the best documents: sums are off by `slack` at most."""
    ranks = np.arange(len(candidates.rows))
    if not segment.one_passage_each:
        ranks = np.sort(np.unique(segment.ordinals[candidates.rows], return_index=True)[1])
    if len(ranks) < limit:
        return candidates.rows
    least = candidates.sums[ranks[limit - 1]] - 2 * slack
    likely: NDArray[np.int64] = candidates.rows[candidates.sums >= least]
    return likely


def _is_enough(mode: SparseMode, best: Found, limit: int, beyond: float, slack: float) -> bool:
    """Whether the best of the candidates are the result.

    `beyond` is −∞ where every passage that the pass met is a candidate. In the mode "exact" no
    other passage may reach the last of them, though its sum by level be `slack` too small.
    """
    if beyond == -np.inf:
        return mode != "two_step"
    if len(best.rows) < limit:
        return False
    return mode != "exact" or bool(best.scores[-1] > beyond + slack)


def _slack(terms: _Terms, layers: Layers) -> float:
    """The most by which a sum over levels in float32 may differ from the score.

    A level is off by less than one scale, and n float32 additions by n ε of the sum of what is
    added, at most 255 scales a term.
    """
    scales: Floats = layers.scales[terms.numbers]
    return float(np.abs(terms.weights) @ scales) * (1 + 255 * (len(scales) + 2) * _EPSILON)


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
    starts, stops, rows, impacts = statistics.values(number, terms.starts, terms.stops)
    scores = np.full(segment.n_passages, -0.0, np.float64)
    # Adding 0.0 turns a weight of -0.0, which would leave no trace, into 0.0.
    accumulate(starts, stops, terms.weights + 0.0, rows, impacts, scores)
    return scores


def impact_scores(segment: Segment, name: str, query: SparseVector) -> Doubles:
    """The sparse product with every passage, float64 `[n_passages]`; -0.0 where no term is in."""
    return _sums(segment, name, _known_terms(segment.postings[name], query))


def _sums(segment: Segment, name: str, terms: _Terms) -> Doubles:
    postings = segment.postings[name]
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
    wanted = np.sort(rows)
    scores = segment.forward[name].scores(terms.numbers, terms.weights, wanted)
    matched = (scores != 0) | ~np.signbit(scores)
    found = _ordered(wanted[matched], scores[matched])
    if segment.one_passage_each:
        return Found(found.rows[:limit], found.scores[:limit])
    _, first = np.unique(segment.ordinals[found.rows], return_index=True)
    kept = np.sort(first)[:limit]
    return Found(found.rows[kept], found.scores[kept])


def _ordered(rows: NDArray[np.int64], scores: Doubles) -> Found:
    order = np.lexsort((rows, -scores))
    return Found(rows[order], scores[order])


def _known_terms(postings: Postings, query: SparseVector) -> _Terms:
    numbers = postings.numbers(query.terms)
    known = numbers >= 0
    numbers = numbers[known]
    weights = np.array(query.weights, dtype=np.float64)[known]
    return _Terms(numbers, postings.indptr[numbers], postings.indptr[numbers + 1], weights)
