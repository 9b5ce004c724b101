"""Attention to one text in bytes: what `rag.models.fixed_attention` does in 16 bits.

Keys and values are laid out as weights of a product; queries, and what the softmax gives, are rows
of the other, from 0 to 127. See `rag.models.byte_point`, also for why nothing overflows: keys and
values get their scales the same way, only that what rounding may add is left room for beforehand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rag.models.byte_code import GROUP, STEP_BYTES
from rag.models.byte_point import (
    HIGHEST,
    LARGEST,
    MOST,
    ROWS,
    Bytes,
    ByteWeights,
    multiply_bytes,
)
from rag.models.fixed_attention import filled, write_shares
from rag.models.fixed_point import SMALLEST, Floats
from rag.models.group_code import bounds_of_group, round_group, sizes_of_group
from rag.models.row_code import byte_softmax
from rag.models.vector_code import COLUMNS, address, compiled, larger

QUERIES = 4 * ROWS
"""Of a head at a time."""

_LOG2_E = np.float32(1.44269504088896341)
_ONE, _TWO = np.float32(1), np.float32(2)

_MOST_EXACT = np.float32(MOST - 8)
"""As `MOST`, before rounding, which adds half to each of the sixteen at most."""


class ByteRoom(NamedTuple):
    """Where some queries' numbers, scores and weights are kept while they are needed.

    Of numbers and weights there are scales and lows, float32 `[m, 2]`.
    """

    numbers: Bytes
    by_query: Floats
    scores: Floats
    weights: Bytes
    by_weights: Floats


@compiled
def byte_room(size: int, n_rows: int) -> ByteRoom:
    """For `QUERIES` of `size` numbers at a time, to a text of `n_rows`."""
    return ByteRoom(
        np.zeros((QUERIES, size), np.uint8),
        np.zeros((QUERIES, 2), np.float32),
        np.empty((QUERIES, grouped(n_rows)), np.float32),
        np.zeros((QUERIES, grouped(n_rows)), np.uint8),
        np.zeros((QUERIES, 2), np.float32),
    )


@compiled
def grouped(n_rows: int) -> int:
    """Rows of whole groups."""
    return (n_rows + GROUP - 1) // GROUP * GROUP


@compiled
def attend_bytes(read: Floats, n_heads: int, mixed: Floats) -> None:
    """A text's queries, keys and values side by side `[l, 3 d]` → what its heads read `[l, d]`."""
    n_rows = len(read)
    width = read.shape[1] // 3
    size = width // n_heads
    keys, values = no_keys(n_rows, size), no_values(n_rows, width)
    byte_values(read, 2 * width, width, values)
    room, unseen = byte_room(size, n_rows), np.empty((0, 0), np.float32)
    for head in range(n_heads):
        at = head * size
        first, last = at // COLUMNS, (at + size) // COLUMNS
        own = ByteWeights(values.panels[first:last], values.columns[first:last])
        byte_keys(read, width + at, size, keys)
        look_bytes(read, at, size, keys, own, n_rows, room, mixed, at, unseen)


@compiled
def no_keys(n_rows: int, size: int) -> ByteWeights:
    """Room for a text's keys, an output each."""
    n_panels = filled(n_rows) // COLUMNS
    return ByteWeights(
        np.zeros((n_panels, size // STEP_BYTES, COLUMNS, STEP_BYTES), np.int8),
        np.zeros((n_panels, 3, COLUMNS), np.float32),
    )


@compiled
def no_values(n_rows: int, size: int) -> ByteWeights:
    """Room for a text's values, an input each."""
    shape = size // COLUMNS, grouped(n_rows) // STEP_BYTES, COLUMNS, STEP_BYTES
    return ByteWeights(
        np.zeros(shape, np.int8), np.zeros((size // COLUMNS, 3, COLUMNS), np.float32)
    )


@compiled
def look_bytes(
    asked: Floats,
    asked_at: int,
    head_size: int,
    keys: ByteWeights,
    values: ByteWeights,
    n_rows: int,
    room: ByteRoom,
    mixed: Floats,
    mixed_at: int,
    shares: Floats,
) -> None:
    """As `rag.models.fixed_attention.look`."""
    size = room.numbers.shape[1]
    shrink = _LOG2_E / np.sqrt(np.float32(head_size))
    for top in range(0, len(asked), QUERIES):
        n_queries = min(QUERIES, len(asked) - top)
        for row in range(n_queries):
            query = address(asked) + (top + row) * asked.strides[0] + 4 * asked_at
            scale, low = _byte_query(query, size, address(room.numbers) + row * size)
            room.by_query[row, 0] = shrink * scale
            room.by_query[row, 1] = shrink * low
        multiply_bytes(room.numbers, room.by_query, n_queries, keys, room.scores, 0, 0)
        for row in range(n_queries):
            room.by_weights[row, 0] = byte_softmax(room.scores, row, n_rows, room.weights)
            if len(shares):
                write_shares(room.scores[row, :n_rows], shares[top + row])
        multiply_bytes(room.weights, room.by_weights, n_queries, values, mixed, top, mixed_at)


@compiled
def _byte_query(row: int, width: int, numbers: int) -> tuple[np.float32, np.float32]:
    """Write a row as `rag.models.byte_point.byte_row` does, by addresses; its scale and low."""
    low, high = bounds_of_group(row)
    for group in range(GROUP, width, GROUP):
        least, most = bounds_of_group(row + 4 * group)
        low, high = -larger(-low, -least), larger(high, most)
    scale = (high - low) / HIGHEST
    if scale < SMALLEST:
        scale = _ONE
    inverse = _ONE / scale
    for group in range(0, width, GROUP):
        round_group(row + 4 * group, low, inverse, numbers + group)
    return scale, low


@compiled
def byte_keys(read: Floats, at: int, size: int, keys: ByteWeights) -> None:
    """Columns `at` to `at + size` of `[l, ...]` as weights, with an output for each row."""
    numbers = np.empty(size, np.int8)
    # A step's bytes at a time.
    steps, places = numbers.view(np.int32), keys.panels.view(np.int32)
    start, stride = address(read) + 4 * at, read.strides[0]
    for row in range(len(read)):
        scale, total = _byte_key(start + row * stride, size, address(numbers))
        panel, column = row // COLUMNS, row % COLUMNS
        keys.columns[panel, 0, column] = scale
        keys.columns[panel, 1, column] = scale * total
        for step in range(size // STEP_BYTES):
            places[panel, step, column, 0] = steps[step]


@compiled
def _byte_key(row: int, width: int, numbers: int) -> tuple[np.float32, np.float32]:
    """Write a row as signed bytes, by addresses; their scale and sum."""
    largest = most = np.float32(0)
    for group in range(0, width, GROUP):
        size, sums = sizes_of_group(row + 4 * group)
        largest, most = larger(largest, size), larger(most, sums)
    scale = _scale(largest, most)
    inverse = _ONE / scale
    total = np.float32(0)
    for group in range(0, width, GROUP):
        total += round_group(row + 4 * group, np.float32(0), inverse, numbers + group)
    return scale, total


@compiled
def byte_values(read: Floats, at: int, size: int, values: ByteWeights) -> None:
    """Columns `at` to `at + size` of `[l, ...]` as weights, with an input for each row.

    What is rounded is their distance from the mean, which is the bias: what weights lack of 1, as
    many are too small for a byte, is then given to the mean of all. A column of one sign would be
    left few bits besides.
    """
    means = _means(read, at, size)
    scales = _value_scales(read, at, means)
    for place in range(size):
        values.columns[place // COLUMNS, 0, place % COLUMNS] = scales[place]
        values.columns[place // COLUMNS, 2, place % COLUMNS] = means[place]
    inverse = _ONE / scales
    words = values.panels.view(np.int32)
    for step in range((len(read) + STEP_BYTES - 1) // STEP_BYTES):
        top = STEP_BYTES * step
        row0 = read[top, at : at + size]
        row1 = read[top + 1, at : at + size] if top + 1 < len(read) else means
        row2 = read[top + 2, at : at + size] if top + 2 < len(read) else means
        row3 = read[top + 3, at : at + size] if top + 3 < len(read) else means
        for panel in range(size // COLUMNS):
            for column in range(COLUMNS):
                place = panel * COLUMNS + column
                mean, factor = means[place], inverse[place]
                words[panel, step, column, 0] = (
                    _byte((row0[place] - mean) * factor)
                    | _byte((row1[place] - mean) * factor) << 8
                    | _byte((row2[place] - mean) * factor) << 16
                    | _byte((row3[place] - mean) * factor) << 24
                )


@compiled
def _byte(value: np.float32) -> Any:
    """A number that fits a signed byte, rounded, as that byte."""
    return np.int32(np.rint(value)) & 255


@compiled
def _means(read: Floats, at: int, size: int) -> Floats:
    """Of columns `at` to `at + size` of `[l, ...]`."""
    means = np.zeros(size, np.float32)
    for row in range(len(read)):
        values = read[row, at : at + size]
        for place in range(size):
            means[place] += values[place]
    return means / np.float32(len(read))


@compiled
def _value_scales(read: Floats, at: int, means: Floats) -> Floats:
    """For columns of `[l, ...]` from `at` on, less their means."""
    size = len(means)
    largest, most = np.zeros(size, np.float32), np.zeros(size, np.float32)
    sums, sizes = np.empty((2, size), np.float32), np.empty((2, size), np.float32)
    for group in range(0, len(read), GROUP):
        sums[:] = 0
        sizes[:] = 0
        for row in range(group, min(group + GROUP, len(read))):
            half = row // 2 % 2
            values, added, lengths = read[row, at : at + size], sums[half], sizes[half]
            for place in range(size):
                value = values[place] - means[place]
                added[place] += value
                lengths[place] += abs(value)
                largest[place] = larger(largest[place], abs(value))
        for half in range(2):
            for place in range(size):
                most[place] = larger(most[place], sizes[half, place] + abs(sums[half, place]))
    scales = np.empty(size, np.float32)
    for place in range(size):
        scales[place] = _scale(largest[place], most[place])
    return scales


@compiled
def _scale(largest: np.float32, most: np.float32) -> np.float32:
    """Of weights: their largest size, and twice the most that those of a sign add up to."""
    scale = larger(most / (_TWO * _MOST_EXACT), largest / np.float32(LARGEST))
    return scale if scale > SMALLEST else _ONE
