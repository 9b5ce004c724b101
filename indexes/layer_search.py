"""Searching layers and forward impacts in one compiled call: nearly all of a small search is calls.

A pass adds up query weight · level over the layers that it reads and keeps the rows of the largest
sums; those that may be among the best are then scored in full, float64 sums over the impacts as
they are, and collapsed to one row a document. What a row that was not scored can reach at most
comes back beside them: where that is less than the last of the best, they are the best.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.full_scores import best_in_full, best_of_documents
from indexes.kernels import BLOCK_ROWS, compiled, is_nothing, sift
from indexes.layers import LAYERS, N_LAYERS
from indexes.representation import Doubles, Floats

STRIDE = 64
"""Sums looked at together: a fixed number, so that the comparison is done with wide registers."""

_EPSILON = 2.0**-23


@compiled
def search_layers(
    ends: NDArray[np.int64],
    numbers: NDArray[np.int64],
    weights: Doubles,
    layers: tuple[NDArray[Any], ...],
    forward: tuple[NDArray[Any], ...],
    ordinals: NDArray[np.uint32],
    n_rows: int,
    allowed: NDArray[np.bool_],
    limit: int,
    wanted: int,
    budget: float,
    share: float,
    exactly: bool,
    slots: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.int64], Doubles, Doubles]:
    """The best documents' best rows of each query: (how many, rows, scores, bound of the others).

    Query q's terms are those before `ends[q]` and not before `ends[q - 1]`, each once. `layers` and
    `forward` are the arrays of those; `ordinals` say which document a row is of, and are empty
    where each has one row; `allowed` of length 0 allows all. A pass reads `budget` postings, and a
    `share` of the query's at most, and keeps `wanted` rows; all of those are scored, or with
    `exactly` those that can be among the best. `slots` holds a zero for each of the index' terms,
    of a kind that can count the query's. A bound is −∞ where no other row has any of the terms, ∞
    where a pass that left layers out met fewer rows than it wanted.
    """
    scales, counts, starts, held_rows, levels = layers
    depths = np.empty(len(numbers), np.int64)
    first = 0
    for query in range(len(ends)):
        span = slice(first, ends[query])
        depths[span] = depths_within(numbers[span], weights[span], scales, counts, budget, share)
        first = ends[query]
    rows, sums = best_by_level(
        ends, numbers, depths, weights, scales, starts, held_rows, levels, n_rows, allowed, wanted
    )
    n_found = np.zeros(len(ends), np.int64)
    found = np.empty((len(ends), limit), np.int64)
    scores = np.empty((len(ends), limit), np.float64)
    bounds = np.empty(len(ends), np.float64)
    first = 0
    for query in range(len(ends)):
        span = slice(first, ends[query])
        doubt, unread = _doubt(numbers[span], weights[span], scales, depths[span])
        # The root of the heap is the least of what was kept: −∞ where it was not filled.
        least = float(sums[query, 0])
        if unread:
            least = math.inf if least == -math.inf else max(least, 0.0)
        bounds[query] = least + doubt
        likely = _likely(rows[query], sums[query], ordinals, n_rows, limit, doubt, exactly)
        n_found[query] = best_in_full(
            numbers[span],
            weights[span],
            forward,
            likely,
            ordinals,
            slots,
            found[query],
            scores[query],
        )
        first = ends[query]
    return n_found, found, scores, bounds


@compiled
def depths_within(
    numbers: NDArray[np.int64],
    weights: Doubles,
    scales: Floats,
    counts: NDArray[np.int64],
    budget: float,
    share: float,
) -> NDArray[np.int64]:
    """How many layers of each of a query's terms are read, the heaviest first.

    A layer that is not read leaves the scores of its rows in doubt. Layers are taken by how much
    doubt they end a posting, until the next one's postings would exceed the budget, or this share
    of the query's postings; the first is always taken. A term's layers come in their order.
    """
    depths = np.full(len(numbers), N_LAYERS, np.int64)
    total = 0
    for term in numbers:
        for layer in range(N_LAYERS):
            total += counts[term, layer]
    budget = min(budget, share * total)
    if total <= budget:
        return depths
    worth = np.empty(len(numbers) * N_LAYERS, np.float64)
    for place in range(len(worth)):
        term, layer = numbers[place // N_LAYERS], place % N_LAYERS
        left = LAYERS[layer + 1] if layer + 1 < N_LAYERS else 0
        ended = abs(weights[place // N_LAYERS]) * scales[term] * (LAYERS[layer] - left)
        worth[place] = -ended / max(counts[term, layer], 1)
        if layer:  # none is worth more than the one before it
            worth[place] = max(worth[place], worth[place - 1])
    depths[:] = 0
    spent = 0
    for place in np.argsort(worth, kind="mergesort"):
        count = counts[numbers[place // N_LAYERS], place % N_LAYERS]
        if spent and spent + count > budget:
            break
        depths[place // N_LAYERS] += 1
        spent += count
    return depths


@compiled
def best_by_level(
    ends: NDArray[np.int64],
    numbers: NDArray[np.int64],
    depths: NDArray[np.int64],
    weights: Doubles,
    scales: Floats,
    starts: NDArray[np.int64],
    rows: NDArray[np.uint16],
    levels: NDArray[np.uint8],
    n_rows: int,
    allowed: NDArray[np.bool_],
    limit: int,
) -> tuple[NDArray[np.int64], Floats]:
    """For each query the allowed rows of largest Σ weight · scale · level: both `[n, limit]`.

    As heaps, the least first; where fewer rows are met, the rest is row `n_rows`, sum −∞. All
    queries pass over one block before the next: what they share is read from memory once.
    """
    blocks = -(-n_rows // BLOCK_ROWS)
    best_sums = np.full((len(ends), limit), -np.inf, np.float32)
    found = np.full((len(ends), limit), n_rows, np.int64)
    sums = np.empty(BLOCK_ROWS if blocks > 1 else -(-n_rows // STRIDE) * STRIDE, np.float32)
    for block in range(blocks):
        first = 0
        for query in range(len(ends)):
            sums[:] = -0.0  # marks what nothing was added to
            for place in range(first, ends[query]):
                weight = np.float32(weights[place] * scales[numbers[place]])
                cell = (numbers[place] * blocks + block) * N_LAYERS
                # Of slices the compiler knows that no index is negative: a fifth less time.
                held = rows[starts[cell] : starts[cell + depths[place]]]
                level = levels[starts[cell] : starts[cell + depths[place]]]
                for posting in range(len(held)):
                    sums[held[posting]] += weight * level[posting]
            first = ends[query]
            _keep_best(sums, block * BLOCK_ROWS, n_rows, allowed, best_sums[query], found[query])
    return found, best_sums


@compiled
def _keep_best(
    sums: Floats,
    base: int,
    n_rows: int,
    allowed: NDArray[np.bool_],
    heap_scores: Floats,
    heap_rows: NDArray[np.int64],
) -> None:
    """Put the allowed rows of a block, the first of which is `base`, into the heap."""
    strides = sums.reshape(-1, STRIDE)
    for stride in range(len(strides)):
        some, worst = strides[stride], heap_scores[0]
        n_above = np.int32(0)
        for place in range(STRIDE):
            n_above += np.int32(some[place] > worst)
        if n_above == 0:
            continue
        for place in range(STRIDE):
            row = base + stride * STRIDE + place
            score = some[place]
            if row < n_rows and score > heap_scores[0] and not is_nothing(score):
                if len(allowed) and not allowed[row]:
                    continue
                sift(heap_scores, heap_rows, score, row)


@compiled
def _doubt(
    numbers: NDArray[np.int64], weights: Doubles, scales: Floats, depths: NDArray[np.int64]
) -> tuple[float, bool]:
    """The most by which a row's sum may differ from its score; whether a layer was left out.

    A level is off by less than one scale, and n float32 additions by n ε of the sum of what is
    added, at most 255 scales a term. Of what was left out a term adds at most its first layer's
    greatest level.
    """
    off = left_out = 0.0
    unread = False
    for term in range(len(numbers)):
        scale = abs(weights[term]) * np.float64(scales[numbers[term]])
        off += scale
        if depths[term] < N_LAYERS:
            unread = True
            left_out += scale * LAYERS[depths[term]]
    return off * (1 + 255 * (len(numbers) + 2) * _EPSILON) + left_out, unread


@compiled
def _likely(
    rows: NDArray[np.int64],
    sums: Floats,
    ordinals: NDArray[np.uint32],
    n_rows: int,
    limit: int,
    doubt: float,
    exactly: bool,
) -> NDArray[np.int64]:
    """The rows of a heap, ascending; with `exactly` those that may be of the best documents."""
    order = np.argsort(rows)
    n_met = 0
    for row in rows:
        n_met += row < n_rows
    order = order[:n_met]
    if not exactly:
        return rows[order]
    heap_sums = np.empty(limit, np.float32)
    best_of_documents(rows[order], sums[order], ordinals, heap_sums, np.empty(limit, np.int64))
    likely: NDArray[np.int64] = rows[order[sums[order] >= heap_sums[0] - 2 * doubt]]
    return likely
