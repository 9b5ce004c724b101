"""Compiled inner loops over postings: find terms, add up impacts, keep the best.

Each has a plain twin in the tests. They let go of the interpreter lock, so searches of a server's
threads run side by side. Compiled code is kept beside this file or in the user's cache folder;
where neither can be written it is compiled anew in each process.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.compiled_loops import compiler

BLOCK_ROWS = 1 << 16
"""Rows scored before going on: their sums, 256 KiB in float32, stay in a core's cache."""

compiled = compiler()


@compiled
def find_terms(
    terms: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    wanted: NDArray[np.uint8],
    wanted_offsets: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Numbers of the wanted terms among sorted ones, all UTF-8 end to end; -1 for the unknown."""
    numbers = np.full(len(wanted_offsets) - 1, -1, np.int64)
    for place in range(len(numbers)):
        first, last = wanted_offsets[place], wanted_offsets[place + 1]
        low, high = 0, len(offsets) - 1
        while low < high:
            middle = (low + high) // 2
            sign = _compare(terms, offsets[middle], offsets[middle + 1], wanted, first, last)
            if sign == 0:
                numbers[place] = middle
                break
            if sign < 0:
                low = middle + 1
            else:
                high = middle
    return numbers


@compiled
def _compare(
    a: NDArray[np.uint8], i: int, i_end: int, b: NDArray[np.uint8], j: int, j_end: int
) -> int:
    """-1, 0 or 1 as the bytes `a[i:i_end]` come before, equal or come after `b[j:j_end]`."""
    while i < i_end and j < j_end:
        if a[i] != b[j]:
            return -1 if a[i] < b[j] else 1
        i += 1
        j += 1
    if i < i_end:
        return 1
    return -1 if j < j_end else 0


@compiled
def by_term(
    indptr: NDArray[np.int64],
    term_ids: NDArray[np.uint32],
    weights: NDArray[Any],
    numbers: NDArray[np.uint32],
    term_indptr: NDArray[np.int64],
) -> tuple[NDArray[np.uint32], NDArray[Any]]:
    """Compressed rows → postings: (rows, ascending within a term; weights), by counting.

    Term id i has the number `numbers[i]`; its postings go to `term_indptr[number]` and after.
    """
    cursors = term_indptr[:-1].copy()
    rows = np.empty(len(term_ids), np.uint32)
    placed = np.empty(len(term_ids), weights.dtype)
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            number = numbers[term_ids[entry]]
            rows[cursors[number]] = row
            placed[cursors[number]] = weights[entry]
            cursors[number] += 1
    return rows, placed


@compiled
def by_row(
    indptr: NDArray[np.int64],
    rows: NDArray[np.uint32],
    weights: NDArray[Any],
    row_indptr: NDArray[np.int64],
    terms: NDArray[Any],
    placed: NDArray[Any],
) -> None:
    """Postings → compressed rows, by counting: fills `terms`, ascending in a row, and `placed`."""
    cursors = row_indptr[:-1].copy()
    for term in range(len(indptr) - 1):
        for posting in range(indptr[term], indptr[term + 1]):
            cursor = cursors[rows[posting]]
            terms[cursor] = term
            placed[cursor] = weights[posting]
            cursors[rows[posting]] = cursor + 1


@compiled
def _first_at_least(rows: NDArray[np.uint32], low: int, high: int, row: int) -> int:
    """First position in `low:high` whose row is `row` or later; rows ascend."""
    while low < high:
        middle = (low + high) // 2
        if rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def accumulate(
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    weights: NDArray[Any],
    rows: NDArray[np.uint32],
    values: NDArray[Any],
    scores: NDArray[Any],
) -> None:
    """`scores[row] += weights[t] * value` for each posting of each term t.

    Term t's postings are `starts[t]:stops[t]` of `rows`, ascending, and `values`. Rows are taken a
    block at a time, term by term inside it: the same sums in the same order, with less memory
    traffic.
    """
    n_rows = len(scores)
    cursors = starts.copy()
    for base in range(0, n_rows, BLOCK_ROWS):
        end = min(base + BLOCK_ROWS, n_rows)
        for term in range(len(starts)):
            stop = stops[term]
            if end < n_rows:
                stop = _first_at_least(rows, cursors[term], stop, end)
            weight = weights[term]
            # Of slices the compiler knows that no index is negative, which saves time.
            held, value = rows[cursors[term] : stop], values[cursors[term] : stop]
            for posting in range(len(held)):
                scores[held[posting]] += weight * value[posting]
            cursors[term] = stop


@compiled
def is_nothing(score: float) -> bool:
    """Whether nothing was ever added to a score that began as -0.0."""
    return score == 0 and math.copysign(1.0, score) < 0


@compiled
def _worse(score: float, row: int, other_score: float, other_row: int) -> bool:
    """Whether the first ranks below the second: a smaller score, or the same in a later row."""
    return score < other_score or (score == other_score and row > other_row)


@compiled
def sift(heap_scores: NDArray[Any], heap_rows: NDArray[np.int64], score: float, row: int) -> None:
    """Put (score, row) in place of the root, the worst of all, and restore the heap."""
    size = len(heap_scores)
    hole = 0
    while 2 * hole + 1 < size:
        child = 2 * hole + 1
        right = child + 1
        if right < size and _worse(
            heap_scores[right], heap_rows[right], heap_scores[child], heap_rows[child]
        ):
            child = right
        if not _worse(heap_scores[child], heap_rows[child], score, row):
            break
        heap_scores[hole] = heap_scores[child]
        heap_rows[hole] = heap_rows[child]
        hole = child
    heap_scores[hole] = score
    heap_rows[hole] = row


@compiled
def best_rows(
    scores: NDArray[Any], allowed: NDArray[np.bool_], limit: int
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The `limit` allowed rows of largest score, in no order; of equal scores the earlier rows.

    A score of -0.0 is no match: nothing was ever added to it. `allowed` of length 0 allows all.
    """
    heap_scores = np.full(limit, -np.inf, scores.dtype)
    heap_rows = np.full(limit, len(scores), np.int64)
    for row in range(len(scores)):
        score = scores[row]
        if score > heap_scores[0]:
            if is_nothing(score):
                continue
            if len(allowed) and not allowed[row]:
                continue
            sift(heap_scores, heap_rows, score, row)
    found = heap_rows < len(scores)
    return heap_rows[found], heap_scores[found]


@compiled
def best_documents(
    scores: NDArray[Any], allowed: NDArray[np.bool_], starts: NDArray[np.int64], limit: int
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """As `best_rows`, one row a document: its best. Document d has the rows from `starts[d]`."""
    heap_scores = np.full(limit, -np.inf, scores.dtype)
    heap_rows = np.full(limit, len(scores), np.int64)
    for document in range(len(starts)):
        end = starts[document + 1] if document + 1 < len(starts) else len(scores)
        best, best_row = heap_scores[0], -1
        for row in range(starts[document], end):
            score = scores[row]
            if score > best:
                if is_nothing(score):
                    continue
                if len(allowed) and not allowed[row]:
                    continue
                best, best_row = score, row
        if best_row >= 0:
            sift(heap_scores, heap_rows, best, best_row)
    found = heap_rows < len(scores)
    return heap_rows[found], heap_scores[found]
