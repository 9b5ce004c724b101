"""Products of dense layers in 16-bit fixed point: twice float32's multiply-adds a cycle on a CPU.

x86 multiplies sixteen pairs of 16-bit numbers and adds neighbours into eight 32-bit sums in one
instruction (`pmaddwd`; with VNNI the running sum is added too), where float32 does eight. Half the
bytes of weights come from memory besides, which is what a query of a dozen tokens waits for.

Rows of activations and of weights get a scale each, such that no sum can overflow: by Cauchy and
Schwarz |x · w| <= |x| |w|, so both are scaled to a length of at most 2^15.5 (and entries to 16
bits). Of a row of 384 some twelve bits a number are left, an error near 1e-4 of what a product
spreads. The tests have the plain twin, in 64-bit numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rag.models.vector_code import COLUMNS, address, compiled, larger, tile

Floats = NDArray[np.float32]
Shorts = NDArray[np.int16]

ROWS = 6
"""Of a tile at most: twelve vectors of sums leave four of the sixteen registers to work in."""

LENGTH = np.float32(46_300.0)
"""Longest row in fixed point: the square root of 2^31, less what rounding may add."""

LARGEST = np.float32(32_000.0)
"""Largest entry in fixed point, within 16 bits."""

SMALLEST = np.float32(1e-30)
"""A row whose scale were smaller is nothing: its inverse might not be a number any more."""


class FixedWeights(NamedTuple):
    """A dense layer's weights, in panels of `COLUMNS` outputs: `[n / 16, d / 2, 16, 2]` int16.

    `scales` float32 `[n]` are by output: weight = number * scale. `bias` float32 `[n]`.
    """

    panels: Shorts
    scales: Floats
    bias: Floats


def fix_weights(weight: Floats, bias: Floats) -> FixedWeights:
    """Weights `[n, d]` in fixed point, n a multiple of `COLUMNS` and d even."""
    n_outputs, n_inputs = weight.shape
    if n_outputs % COLUMNS or n_inputs % 2:
        raise ValueError(f"{n_outputs} outputs of {n_inputs} inputs do not fill panels")
    wide = weight.astype(np.float64)
    scales = np.maximum(np.sqrt((wide**2).sum(1)) / LENGTH, np.abs(wide).max(1) / LARGEST)
    scales[scales < SMALLEST] = 1
    numbers = np.rint(wide / scales[:, None]).astype(np.int16)
    panels = numbers.reshape(n_outputs // COLUMNS, COLUMNS, n_inputs // 2, 2).transpose(0, 2, 1, 3)
    return FixedWeights(
        np.ascontiguousarray(panels),
        scales.astype(np.float32),
        np.ascontiguousarray(bias, dtype=np.float32),
    )


@compiled
def tile_height(n_rows: int, most: int) -> int:
    """Rows of a tile, `most` or one or two fewer, such that few are left empty in the last."""
    n_tiles = (n_rows + most - 1) // most
    return max(most - 2, (n_rows + n_tiles - 1) // n_tiles)


@compiled
def fixed_rows(rows: Floats) -> tuple[Shorts, Floats]:
    """Rows `[m, d]` → numbers int16 and a scale each, with empty rows to fill the last tile."""
    n_rows, width = rows.shape
    height = tile_height(n_rows, ROWS)
    n_filled = (n_rows + height - 1) // height * height
    numbers = np.empty((n_filled, width), np.int16)
    scales = np.zeros(n_filled, np.float32)
    for place in range(n_rows):
        scales[place] = fix_row(rows[place], numbers[place])
    for place in range(n_rows, n_filled):
        for column in range(width):
            numbers[place, column] = 0
    return numbers, scales


@compiled
def fix_row(row: Floats, numbers: Shorts) -> Any:
    """Write a row as 16-bit numbers, return their scale, a float32."""
    squares = largest = np.float32(0)
    for place in range(len(row)):
        squares += row[place] * row[place]
        largest = larger(largest, abs(row[place]))
    scale = larger(np.sqrt(squares) / LENGTH, largest / LARGEST)
    if scale < SMALLEST:
        scale = np.float32(1)
    inverse = np.float32(1) / scale
    for place in range(len(row)):
        numbers[place] = np.int32(np.rint(row[place] * inverse))
    return scale


@compiled
def multiply(
    numbers: Shorts,
    row_scales: Floats,
    n_rows: int,
    fixed: FixedWeights,
    found: Floats,
    first: int,
    left: int,
) -> None:
    """Write the products of fixed rows with fixed weights, bias added.

    They go to found `[..., ...]` from row `first` and column `left` on. The rows are filled up as
    `fixed_rows` does.
    """
    height = tile_height(n_rows, ROWS)
    n_panels, n_pairs = fixed.panels.shape[:2]
    stride, out_stride = 4 * n_pairs, found.strides[0]
    spare = np.empty((ROWS, COLUMNS), np.float32)
    rows, edge = address(numbers), address(spare)
    out = address(found) + first * out_stride + 4 * left
    panel, by_row = address(fixed.panels), address(row_scales)
    scales, bias = address(fixed.scales), address(fixed.bias)
    for number in range(n_panels):
        at = 4 * COLUMNS * number
        for top in range(0, n_rows, height):
            whole = top + height <= n_rows
            _multiply_tile(
                height,
                rows + top * stride,
                stride,
                panel + number * COLUMNS * stride,
                n_pairs,
                by_row + 4 * top,
                scales + at,
                bias + at,
                out + top * out_stride + at if whole else edge,
                out_stride if whole else 4 * COLUMNS,
            )
            if not whole:
                for row in range(n_rows - top):
                    for column in range(COLUMNS):
                        found[first + top + row, left + COLUMNS * number + column] = spare[
                            row, column
                        ]


@compiled
def _multiply_tile(
    height: int,
    rows: int,
    stride: int,
    panel: int,
    n_pairs: int,
    row_scales: int,
    scales: int,
    bias: int,
    out: int,
    out_stride: int,
) -> None:
    """`tile` by a height that is known only now."""
    if height == 6:
        tile(6, rows, stride, panel, n_pairs, row_scales, scales, bias, out, out_stride)
    elif height == 5:
        tile(5, rows, stride, panel, n_pairs, row_scales, scales, bias, out, out_stride)
    else:
        tile(4, rows, stride, panel, n_pairs, row_scales, scales, bias, out, out_stride)
