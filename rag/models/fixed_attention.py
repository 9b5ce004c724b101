"""Attention to one text in 16-bit fixed point: some queries at a time.

Keys and values are laid out as weights of a product; what the softmax gives is rounded as rows of
the other. See `rag.models.fixed_point`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rag.models.fixed_point import (
    LARGEST,
    LENGTH,
    ROWS,
    SMALLEST,
    FixedWeights,
    Floats,
    Shorts,
    fix_row,
    multiply,
)
from rag.models.row_code import fix_softmax
from rag.models.vector_code import COLUMNS, compiled, larger

_LOG2_E = np.float32(1.44269504088896341)


class Room(NamedTuple):
    """Where some queries' numbers, scores and weights are kept while they are needed."""

    numbers: Shorts
    ask_scales: Floats
    scores: Floats
    weights: Shorts
    weight_scales: Floats


@compiled
def room_for(n_queries: int, size: int, n_rows: int) -> Room:
    """For that many queries of `size` numbers at a time, to a text of `n_rows`."""
    n_columns = filled(n_rows)
    return Room(
        np.zeros((n_queries, size), np.int16),
        np.empty(n_queries, np.float32),
        np.empty((n_queries, n_columns), np.float32),
        np.zeros((n_queries, n_columns), np.int16),
        np.empty(n_queries, np.float32),
    )


@compiled
def filled(n_rows: int) -> int:
    """Rows of whole panels."""
    return (n_rows + COLUMNS - 1) // COLUMNS * COLUMNS


@compiled
def attend(read: Floats, n_heads: int, mixed: Floats) -> None:
    """A text's queries, keys and values side by side `[l, 3 d]` → what its heads read `[l, d]`."""
    n_rows = len(read)
    width = read.shape[1] // 3
    size = width // n_heads
    n_columns = filled(n_rows)
    nothing = np.zeros(max(n_columns, size), np.float32)
    keys = FixedWeights(
        np.zeros((n_columns // COLUMNS, size // 2, COLUMNS, 2), np.int16),
        np.zeros(n_columns, np.float32),
        nothing,
    )
    values = FixedWeights(
        np.zeros((size // COLUMNS, n_columns // 2, COLUMNS, 2), np.int16),
        np.empty(size, np.float32),
        nothing,
    )
    room, unseen = room_for(ROWS, size, n_rows), np.empty((0, 0), np.float32)
    for head in range(n_heads):
        at = head * size
        fix_keys(read, width + at, size, keys.panels, keys.scales)
        fix_values(read, 2 * width + at, size, values.panels, values.scales)
        look(read, at, size, keys, values, n_rows, room, mixed, at, unseen)


@compiled
def look(
    asked: Floats,
    asked_at: int,
    head_size: int,
    keys: FixedWeights,
    values: FixedWeights,
    n_rows: int,
    room: Room,
    mixed: Floats,
    mixed_at: int,
    shares: Floats,
) -> None:
    """One head's queries and a text of `n_rows` → what they read of it, and their attention.

    Queries are in rows of `asked` from column `asked_at` on, what they read goes to `mixed` from
    column `mixed_at` on, and their attention to `shares` `[m, n_rows...]`, if that has any rows.
    Scores are divided by the root of `head_size`.
    """
    n_together, size = room.numbers.shape
    shrink = _LOG2_E / np.sqrt(np.float32(head_size))
    for top in range(0, len(asked), n_together):
        n_queries = min(n_together, len(asked) - top)
        for row in range(n_queries):
            query = asked[top + row, asked_at : asked_at + size]
            room.ask_scales[row] = shrink * fix_row(query, room.numbers[row])
        multiply(room.numbers, room.ask_scales, n_queries, keys, room.scores, 0, 0)
        for row in range(n_queries):
            scores = room.scores[row, :n_rows]
            room.weight_scales[row] = fix_softmax(scores, room.weights[row])
            if len(shares):
                _write_shares(scores, shares[top + row])
        multiply(room.weights, room.weight_scales, n_queries, values, mixed, top, mixed_at)


@compiled
def _write_shares(parts: Floats, shares: Floats) -> None:
    """Parts, not all 0, so that they sum to 1."""
    total = np.float32(0)
    for place in range(len(parts)):
        total += parts[place]
    for place in range(len(parts)):
        shares[place] = parts[place] / total


@compiled
def fix_keys(read: Floats, at: int, size: int, panels: Shorts, scales: Floats) -> None:
    """Columns `at` to `at + size` of `[l, ...]` as weights, with an output for each row."""
    numbers = np.empty(size, np.int16)
    # Two neighbours at a time.
    pairs, places = numbers.view(np.int32), panels.view(np.int32)
    for row in range(len(read)):
        scales[row] = fix_row(read[row, at : at + size], numbers)
        for pair in range(size // 2):
            places[row // COLUMNS, pair, row % COLUMNS, 0] = pairs[pair]


@compiled
def fix_values(read: Floats, at: int, size: int, panels: Shorts, scales: Floats) -> None:
    """Columns `at` to `at + size` of `[l, ...]` as weights, with an input for each row."""
    squares, largest = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for row in range(len(read)):
        values = read[row, at : at + size]
        for place in range(size):
            squares[place] += values[place] * values[place]
            largest[place] = larger(largest[place], abs(values[place]))
    inverse = np.empty(size, np.float32)
    for place in range(size):
        scale = larger(np.sqrt(squares[place]) / LENGTH, largest[place] / LARGEST)
        scales[place] = scale if scale > SMALLEST else np.float32(1)
        inverse[place] = np.float32(1) / scales[place]
    numbers = np.empty(size, np.int16)
    for row in range(len(read)):
        values = read[row, at : at + size]
        for place in range(size):
            numbers[place] = np.int32(np.rint(values[place] * inverse[place]))
        pair, side = row // 2, row % 2
        for panel in range(size // COLUMNS):
            for column in range(COLUMNS):
                panels[panel, pair, column, side] = numbers[panel * COLUMNS + column]
