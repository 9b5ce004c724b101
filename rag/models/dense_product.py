"""Dense layers on rows of float32, in whatever numbers their weights were rounded to.

`layer_of` and `multiply_rows` are for compiled code, which picks by the weights' type once, when
it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numba.extending import overload

from rag.models.byte_point import ByteWeights, byte_rows, byte_weights, multiply_bytes
from rag.models.fixed_point import FixedWeights, Floats, fix_weights, fixed_rows, multiply
from rag.models.torch_runtime import Rounding
from rag.models.vector_code import COLUMNS, COMPILED_AS, compiled

DenseWeights = FixedWeights | ByteWeights

Stacked = tuple[Any, ...]
"""A `DenseWeights`' arrays of several layers, one after the other; a plain tuple, because those
are what compiled code is handed fastest."""

BLOCK_ROWS = 60
"""A multiple of a tile's rows, 6 or 5; a block's numbers fit a core's second cache."""

_ROUND: dict[Rounding, Callable[[Floats, Floats], DenseWeights]] = {
    "int16": fix_weights,
    "int8": byte_weights,
}


def round_dense(layers: Sequence[Any], rounding: Rounding) -> DenseWeights:
    """Torch's dense layers that read the same, as one."""
    weight = torch.cat([layer.weight for layer in layers]).detach()
    bias = torch.cat([layer.bias for layer in layers]).detach()
    return _ROUND[rounding](weight.numpy(), bias.numpy())


def stacked(layers: Sequence[DenseWeights]) -> Stacked:
    """Layers of one shape."""
    return tuple(np.stack(arrays) for arrays in zip(*layers, strict=True))


def layer_of(layers: Stacked, number: int) -> DenseWeights:
    """One of stacked layers."""
    found: DenseWeights = _layer_of(layers, number)(layers, number)
    return found


@overload(layer_of, jit_options=COMPILED_AS)  # type: ignore[untyped-decorator]
def _layer_of(layers: Any, number: Any) -> Any:
    del number
    return _bytes_of if len(layers) == len(ByteWeights._fields) else _shorts_of


def _bytes_of(layers: Any, number: Any) -> Any:
    return ByteWeights(layers[0][number], layers[1][number])


def _shorts_of(layers: Any, number: Any) -> Any:
    return FixedWeights(layers[0][number], layers[1][number], layers[2][number])


def multiply_rows(rows: Floats, weights: DenseWeights, found: Floats, first: int) -> None:
    """Write rows `[m, d]` by a dense layer to found `[..., n]`, from row `first` on.

    They are a block, whose numbers should stay in a core's cache.
    """
    write = _in_bytes if isinstance(weights, ByteWeights) else _in_shorts
    write(rows, weights, found, first)


@overload(multiply_rows, jit_options=COMPILED_AS)  # type: ignore[untyped-decorator]
def _multiply_rows(rows: Any, weights: Any, found: Any, first: Any) -> Any:
    del rows, found, first
    return _in_bytes if weights.instance_class is ByteWeights else _in_shorts


def _in_bytes(rows: Any, weights: Any, found: Any, first: Any) -> Any:
    numbers, by_row = byte_rows(rows)
    multiply_bytes(numbers, by_row, len(rows), weights, found, first)


def _in_shorts(rows: Any, weights: Any, found: Any, first: Any) -> Any:
    numbers, scales = fixed_rows(rows)
    multiply(numbers, scales, len(rows), weights, found, first, 0)


@compiled
def project(rows: Floats, weights: DenseWeights) -> Floats:
    """Rows `[m, d]` by a dense layer: `[m, n]`."""
    found = np.empty((len(rows), weights.panels.shape[0] * COLUMNS), np.float32)
    for top in range(0, len(rows), BLOCK_ROWS):
        multiply_rows(rows[top : top + BLOCK_ROWS], weights, found, top)
    return found
