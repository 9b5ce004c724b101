"""Products of dense layers in bytes: 1.6 times the multiply-adds a second of 16-bit numbers.

x86 multiplies thirty-two pairs of an unsigned and a signed byte in one instruction (`pmaddubsw`),
adding neighbours into sixteen 16-bit sums. To widen those at once would cost what was gained, so
eight such are added up in 16 bits first. Overflow is ruled out when weights are rounded: a row of
activations has numbers from 0 to 127 above its least, so a sum is largest where it takes every
weight of one sign, and a row of weights gets a scale such that even that fits. Trained weights
keep some seven bits then, and the sums are exact: the tests have the plain twin in 64-bit numbers.

The error of a product is some 2e-2 of what it spreads (16 bits: 1e-4, `rag.models.fixed_point`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rag.models.byte_code import GROUP, STEP_BYTES, add_up, scale_sums
from rag.models.fixed_point import SMALLEST, Floats, tile_height
from rag.models.vector_code import COLUMNS, address, compiled, larger

Bytes = NDArray[np.uint8]
SignedBytes = NDArray[np.int8]

ROWS = 5
"""Of a tile at most: ten vectors of sums leave six of the sixteen registers to work in. With six
rows LLVM keeps some sums in memory, and a step takes 1.4 times as long."""

HIGHEST = np.float32(127.0)
"""Of a row's numbers; the lowest is 0."""

LARGEST = 127
"""Largest weight in bytes, of either sign."""

PART_STEPS = 192
"""Of a panel at a time: 12 KiB, which the first cache holds beside the rows of a tile."""

MOST = 32_767 // 127
"""What the weights of one sign that go into one 16-bit sum may add up to."""


class ByteWeights(NamedTuple):
    """A dense layer's weights, in panels of 16 outputs: `[n / 16, d / 4, 16, 4]` int8.

    `columns` float32 `[n / 16, 3, 16]` are by output: scales (weight = number · scale), sums of a
    row's weights, and the bias.
    """

    panels: SignedBytes
    columns: Floats


def byte_weights(weight: Floats, bias: Floats) -> ByteWeights:
    """Weights `[n, d]` in bytes, n a multiple of 16 and d of 32."""
    n_outputs, n_inputs = weight.shape
    if n_outputs % COLUMNS or n_inputs % GROUP:
        raise ValueError(f"{n_outputs} outputs of {n_inputs} inputs do not fill panels")
    wide = weight.astype(np.float64)
    scales = np.maximum(np.abs(wide).max(1) / LARGEST, _largest_sums(wide) / MOST)
    scales[scales < SMALLEST] = 1
    numbers = np.rint(wide / scales[:, None])
    # Rounding may have added to a sum: a little more room until nothing is over.
    while (over := _largest_sums(numbers) > MOST).any():
        scales[over] *= 1 + 1 / MOST
        numbers[over] = np.rint(wide[over] / scales[over, None])
    shape = n_outputs // COLUMNS, COLUMNS, n_inputs // STEP_BYTES, STEP_BYTES
    panels = numbers.astype(np.int8).reshape(shape).transpose(0, 2, 1, 3)
    by_output = np.stack([scales, numbers.sum(1) * scales, bias]).astype(np.float32)
    columns = by_output.reshape(3, n_outputs // COLUMNS, COLUMNS).transpose(1, 0, 2)
    return ByteWeights(np.ascontiguousarray(panels), np.ascontiguousarray(columns))


@compiled
def _largest_sums(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each row `[n]` the most that weights of one sign in one 16-bit sum add up to."""
    largest = np.zeros(len(weights))
    for row in range(len(weights)):
        for group in range(0, weights.shape[1], GROUP):
            for pair in range(group, group + STEP_BYTES, 2):
                positive, negative = 0.0, 0.0
                for step in range(pair, pair + GROUP, STEP_BYTES):
                    for weight in weights[row, step : step + 2]:
                        positive += max(weight, 0.0)
                        negative -= min(weight, 0.0)
                largest[row] = max(largest[row], positive, negative)
    return largest


@compiled
def byte_rows(rows: Floats) -> tuple[Bytes, Floats]:
    """Rows `[m, d]` → numbers uint8, and of each its scale and low, float32 `[m', 2]`.

    m' is m and empty rows to fill the last tile.
    """
    n_rows, width = rows.shape
    height = tile_height(n_rows, ROWS)
    n_filled = (n_rows + height - 1) // height * height
    numbers = np.empty((n_filled, width), np.uint8)
    by_row = np.zeros((n_filled, 2), np.float32)
    for place in range(n_rows):
        byte_row(rows[place], numbers[place], by_row[place])
    for place in range(n_rows, n_filled):
        for column in range(width):
            numbers[place, column] = 0
    return numbers, by_row


@compiled
def byte_row(row: Floats, numbers: Bytes, scale_and_low: Floats) -> None:
    """Write a row as bytes: row = number · scale + low, nearly."""
    high, low = row[0], -row[0]
    for place in range(len(row)):
        high = larger(high, row[place])
        low = larger(low, -row[place])
    low = -low
    scale = (high - low) / HIGHEST
    if scale < SMALLEST:
        scale = np.float32(1)
    inverse = np.float32(1) / scale
    for place in range(len(row)):
        numbers[place] = np.int32(np.rint((row[place] - low) * inverse))
    scale_and_low[0] = scale
    scale_and_low[1] = low


@compiled
def multiply_bytes(
    numbers: Bytes, by_row: Floats, n_rows: int, weights: ByteWeights, found: Floats, first: int
) -> None:
    """Write the products of rows in bytes with weights in bytes, bias added.

    They go to found `[..., n]` from row `first` on. The rows are as `byte_rows` gives them.
    """
    height = tile_height(n_rows, ROWS)
    n_panels, n_steps = weights.panels.shape[:2]
    stride, out_stride = STEP_BYTES * n_steps, found.strides[0]
    sums = np.empty((len(numbers), COLUMNS), np.int32)
    spare = np.empty((ROWS, COLUMNS), np.float32)
    rows, added, edge = address(numbers), address(sums), address(spare)
    out = address(found) + first * out_stride
    panel, columns, scales = address(weights.panels), address(weights.columns), address(by_row)
    for number in range(n_panels):
        sums[:] = 0
        for step in range(0, n_steps, PART_STEPS):
            n_part = min(PART_STEPS, n_steps - step)
            part = panel + COLUMNS * STEP_BYTES * (number * n_steps + step)
            for top in range(0, n_rows, height):
                place = rows + top * stride + STEP_BYTES * step
                _add_up(height, place, stride, part, n_part, added + 4 * COLUMNS * top)
        for top in range(0, n_rows, height):
            whole = top + height <= n_rows
            _scale_sums(
                height,
                added + 4 * COLUMNS * top,
                scales + 8 * top,
                columns + 12 * COLUMNS * number,
                out + top * out_stride + 4 * COLUMNS * number if whole else edge,
                out_stride if whole else 4 * COLUMNS,
            )
            if not whole:
                for row in range(n_rows - top):
                    for column in range(COLUMNS):
                        found[first + top + row, COLUMNS * number + column] = spare[row, column]


@compiled
def _add_up(height: int, rows: int, stride: int, panel: int, n_steps: int, sums: int) -> None:
    """`add_up` by a height that is known only now."""
    if height == 5:
        add_up(5, rows, stride, panel, n_steps, sums)
    elif height == 4:
        add_up(4, rows, stride, panel, n_steps, sums)
    else:
        add_up(3, rows, stride, panel, n_steps, sums)


@compiled
def _scale_sums(
    height: int, sums: int, by_row: int, by_column: int, out: int, out_stride: int
) -> None:
    """`scale_sums` by a height that is known only now."""
    if height == 5:
        scale_sums(5, sums, by_row, by_column, out, out_stride)
    elif height == 4:
        scale_sums(4, sums, by_row, by_column, out, out_stride)
    else:
        scale_sums(3, sums, by_row, by_column, out, out_stride)
