"""Compiled scores of a few rows in full, from the impacts by passage, and the best documents."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.kernels import compiled, is_nothing, sift
from indexes.representation import Doubles


@compiled
def best_in_full(
    numbers: NDArray[np.int64],
    weights: Doubles,
    forward: tuple[NDArray[Any], ...],
    rows: NDArray[np.int64],
    ordinals: NDArray[np.uint32],
    slots: NDArray[Any],
    found: NDArray[np.int64],
    scores: Doubles,
) -> int:
    """Fill `found` and `scores` with the best documents of the rows, which ascend: how many."""
    every = score_rows(numbers, weights, forward, rows, slots)
    n_found = best_of_documents(rows, every, ordinals, scores, found)
    for end in range(len(found) - 1, 0, -1):
        worst_score, worst_row = scores[0], found[0]
        sift(scores[:end], found[:end], scores[end], found[end])
        scores[end], found[end] = worst_score, worst_row
    return n_found


@compiled
def best_of_documents(
    rows: NDArray[np.int64],
    scores: NDArray[Any],
    ordinals: NDArray[np.uint32],
    heap_scores: NDArray[Any],
    heap_rows: NDArray[np.int64],
) -> int:
    """Fill the heap with each document's best row, of the best documents: how many were met.

    Rows ascend, so that one document's are next to each other. What is no match is left out; where
    the heap is not filled, its rest is sums of −∞.
    """
    heap_scores[:] = -np.inf
    heap_rows[:] = np.iinfo(np.int64).max
    n_met = 0
    place = 0
    while place < len(rows):
        best = place
        end = place + 1
        while end < len(rows) and len(ordinals) and ordinals[rows[end]] == ordinals[rows[place]]:
            if is_nothing(scores[best]) or (
                scores[end] > scores[best] and not is_nothing(scores[end])
            ):
                best = end
            end += 1
        if not is_nothing(scores[best]):
            n_met += 1
            if scores[best] > heap_scores[0]:
                sift(heap_scores, heap_rows, scores[best], rows[best])
        place = end
    return min(n_met, len(heap_rows))


@compiled
def score_rows(
    numbers: NDArray[np.int64],
    weights: Doubles,
    forward: tuple[NDArray[Any], ...],
    rows: NDArray[np.int64],
    slots: NDArray[Any],
) -> Doubles:
    """Scores of the rows, float64; -0.0 where none of the `numbers` is in.

    `slots`, all 0 before and after, says where a term's weight lies: it is small and stays in
    cache where the weights of all terms would not.
    """
    indptr, terms, impacts = forward
    weight_in = np.zeros(len(numbers) + 1, np.float64)
    for place in range(len(numbers)):
        slots[numbers[place]] = place + 1
        weight_in[place + 1] = weights[place]
    scores = np.full(len(rows), -0.0, np.float64)
    for place in range(len(rows)):
        first, end = indptr[rows[place]], indptr[rows[place] + 1]
        held, value = terms[first:end], impacts[first:end]
        total = 0.0
        shared = 0
        for entry in range(len(held)):
            slot = slots[held[entry]]
            total += weight_in[slot] * value[entry]
            shared |= slot
        if shared:
            scores[place] = total
    for place in range(len(numbers)):
        slots[numbers[place]] = 0
    return scores
