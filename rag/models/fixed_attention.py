"""Attention to one text in 16-bit fixed point: head by head, some queries at a time.

Keys and values are laid out as weights of a product, a head's at a time; what the softmax gives is
rounded as rows of the other. See `rag.models.fixed_point`.
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


class Read(NamedTuple):
    """A text that is attended to: rows `[l, ...]`, and where keys and values begin in each."""

    rows: Floats
    keys_at: int
    values_at: int


@compiled
def attend(read: Floats, n_heads: int, mixed: Floats) -> None:
    """A text's queries, keys and values side by side `[l, 3 d]` → what its heads read `[l, d]`."""
    width = mixed.shape[1]
    unseen = np.empty((0, 0, 0), np.float32)
    look(read, Read(read, width, 2 * width), n_heads, mixed, unseen)


@compiled
def look(asked: Floats, read: Read, n_heads: int, mixed: Floats, attention: Floats) -> None:
    """Queries `[m, d...]` and a text → what the heads read of it, `mixed` `[m, d]`.

    The heads' attention is written to `attention` `[heads, m, l...]`, if that has any room.
    """
    n_asked, width = mixed.shape
    n_rows = len(read.rows)
    size = width // n_heads
    n_panels = (n_rows + COLUMNS - 1) // COLUMNS
    n_columns = n_panels * COLUMNS
    keys = np.zeros((n_panels, size // 2, COLUMNS, 2), np.int16)
    key_scales = np.zeros(n_columns, np.float32)
    values = np.zeros((size // COLUMNS, n_columns // 2, COLUMNS, 2), np.int16)
    value_scales = np.empty(size, np.float32)
    nothing = np.zeros(max(n_columns, size), np.float32)
    numbers = np.zeros((ROWS, size), np.int16)
    ask_scales = np.empty(ROWS, np.float32)
    weights = np.zeros((ROWS, n_columns), np.int16)
    weight_scales = np.empty(ROWS, np.float32)
    scores = np.empty((ROWS, n_columns), np.float32)
    shrink = _LOG2_E / np.sqrt(np.float32(size))
    by_key = FixedWeights(keys, key_scales, nothing)
    by_value = FixedWeights(values, value_scales, nothing)
    for head in range(n_heads):
        at = head * size
        _fix_keys(read.rows, read.keys_at + at, size, keys, key_scales)
        _fix_values(read.rows, read.values_at + at, size, values, value_scales)
        for top in range(0, n_asked, ROWS):
            height = min(ROWS, n_asked - top)
            for row in range(height):
                question = asked[top + row, at : at + size]
                ask_scales[row] = shrink * fix_row(question, numbers[row])
            multiply(numbers, ask_scales, height, by_key, scores, 0, 0)
            for row in range(height):
                weight_scales[row] = fix_softmax(scores[row, :n_rows], weights[row])
                if len(attention):
                    _write_shares(scores[row, :n_rows], attention[head, top + row])
            multiply(weights, weight_scales, height, by_value, mixed, top, at)


@compiled
def _write_shares(parts: Floats, shares: Floats) -> None:
    """Parts, not all 0, so that they sum to 1."""
    total = np.float32(0)
    for place in range(len(parts)):
        total += parts[place]
    for place in range(len(parts)):
        shares[place] = parts[place] / total


@compiled
def _fix_keys(read: Floats, at: int, size: int, panels: Shorts, scales: Floats) -> None:
    """Columns `at` to `at + size` of `[l, ...]` as weights, with an output for each row."""
    numbers = np.empty(size, np.int16)
    # Two neighbours at a time.
    pairs, places = numbers.view(np.int32), panels.view(np.int32)
    for row in range(len(read)):
        scales[row] = fix_row(read[row, at : at + size], numbers)
        for pair in range(size // 2):
            places[row // COLUMNS, pair, row % COLUMNS, 0] = pairs[pair]


@compiled
def _fix_values(read: Floats, at: int, size: int, panels: Shorts, scales: Floats) -> None:
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
