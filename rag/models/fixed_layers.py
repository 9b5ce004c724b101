"""BERT layers in fixed point, 16 bits or bytes: rows of all texts end to end, without padding.

What is between two attentions is done for a block of rows at a time, so that its intermediate
numbers never leave a core's cache; attention is done text by text and head by head, in 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rag.models.byte_code import GROUP
from rag.models.dense_product import (
    BLOCK_ROWS,
    DenseWeights,
    Stacked,
    layer_of,
    multiply_rows,
    project,
    round_dense,
    stacked,
)
from rag.models.fixed_attention import attend
from rag.models.fixed_point import Floats
from rag.models.row_code import add_and_norm, gelu
from rag.models.torch_runtime import Rounding, rounding_wanted
from rag.models.vector_code import COLUMNS, compiled, multiplies_shorts

if TYPE_CHECKING:
    from rag.models.bert_layers import BertLayer


class FixedStack(NamedTuple):
    """Layers: the product that makes queries, keys and values, and the three after attention.

    `norms` float32 `[layers, 2, 2, d]` are weight and bias of the two norms. Plain tuples, because
    those are what compiled code is handed fastest.
    """

    products: tuple[Stacked, Stacked, Stacked, Stacked]
    norms: Floats
    n_heads: int
    eps: float

    def part(self, first: int, last: int) -> FixedStack:
        """Layers `first` to before `last`; nothing is copied."""
        read, attended, inner, outer = (
            tuple(arrays[first:last] for arrays in product) for product in self.products
        )
        return self._replace(products=(read, attended, inner, outer), norms=self.norms[first:last])


class LayerWeights(NamedTuple):
    """One layer of a stack."""

    read: DenseWeights
    attended: DenseWeights
    inner: DenseWeights
    outer: DenseWeights
    norms: Floats


def fix_layers(layers: Sequence[BertLayer], rounding: Rounding) -> FixedStack:
    """Layers of one shape as they are now."""

    def product(*names: str) -> Stacked:
        parts = [[getattr(layer, name) for name in names] for layer in layers]
        return stacked([round_dense(part, rounding) for part in parts])

    return FixedStack(
        (product("query", "key", "value"), product("attended"), product("inner"), product("outer")),
        np.stack([_norms(layer) for layer in layers]),
        layers[0].n_heads,
        float(layers[0].attended_norm.eps),
    )


def _norms(layer: BertLayer) -> Floats:
    parts = [(one.weight, one.bias) for one in (layer.attended_norm, layer.outer_norm)]
    return np.stack([[part.detach().numpy() for part in pair] for pair in parts])


@compiled
def run_layers(
    states: Floats,
    bounds: NDArray[np.int64],
    products: tuple[Stacked, Stacked, Stacked, Stacked],
    norms: Floats,
    n_heads: int,
    eps: float,
) -> Floats:
    """States `[m, d]` of texts end to end through a stack's layers, given part by part.

    Text i has the rows from bounds[i] to before bounds[i + 1].
    """
    for number in range(len(norms)):
        states = run_layer(states, bounds, number, products, norms, n_heads, eps)
    return states


@compiled
def run_layer(
    states: Floats,
    bounds: NDArray[np.int64],
    number: int,
    products: tuple[Stacked, Stacked, Stacked, Stacked],
    norms: Floats,
    n_heads: int,
    eps: float,
) -> Floats:
    """As `run_layers`, through one layer."""
    layer = LayerWeights(
        layer_of(products[0], number),
        layer_of(products[1], number),
        layer_of(products[2], number),
        layer_of(products[3], number),
        norms[number],
    )
    read = project(states, layer.read)
    mixed = np.empty(states.shape, np.float32)
    for text in range(len(bounds) - 1):
        first, last = bounds[text], bounds[text + 1]
        attend(read[first:last], n_heads, mixed[first:last])
    found = np.empty(states.shape, np.float32)
    _after_attention(states, mixed, layer, eps, found)
    return found


@compiled
def _after_attention(
    states: Floats, mixed: Floats, layer: LayerWeights, eps: float, found: Floats
) -> None:
    """The rest of a layer: `states` is what it read, `mixed` what its heads made of it."""
    rows = min(len(states), BLOCK_ROWS)
    summed = np.empty((rows, states.shape[1]), np.float32)
    hidden = np.empty((rows, layer.inner.panels.shape[0] * COLUMNS), np.float32)
    for top in range(0, len(states), BLOCK_ROWS):
        n_rows = min(BLOCK_ROWS, len(states) - top)
        multiply_rows(mixed[top : top + n_rows], layer.attended, summed, 0)
        for row in range(n_rows):
            add_and_norm(summed[row], states[top + row], layer.norms[0], eps)
        multiply_rows(summed[:n_rows], layer.inner, hidden, 0)
        for row in range(n_rows):
            gelu(hidden[row])
        multiply_rows(hidden[:n_rows], layer.outer, found, top)
        for row in range(n_rows):
            add_and_norm(found[top + row], summed[row], layer.norms[1], eps)


def rounding_for(states: torch.Tensor, layer: BertLayer) -> Rounding | None:
    """The fixed point that states are to be computed in, if layers like this one can be."""
    rounding = rounding_wanted()
    if rounding is None or not (
        multiplies_shorts()
        and states.dtype == torch.float32
        and states.device.type == "cpu"
        and torch.is_inference_mode_enabled()
        and _fills_tiles(layer, rounding)
    ):
        return None
    return rounding


def _fills_tiles(layer: BertLayer, rounding: Rounding) -> bool:
    width, wide = layer.attended.weight.shape[0], layer.inner.weight.shape[0]
    whole = GROUP if rounding == "int8" else COLUMNS
    return not (width % whole or wide % whole or width // layer.n_heads % COLUMNS)


def run_fixed(
    stack: FixedStack, states: torch.Tensor, mask: torch.Tensor | None, first: int, last: int
) -> torch.Tensor:
    """States `[B, L, d]` through layers `first` to before `last` of a stack.

    Where `mask` bool `[B, L]` is False nothing is read, and 0 is written.
    """
    n_texts, length, width = states.shape
    if mask is None:
        rows = states.reshape(-1, width).numpy()
        bounds = np.arange(n_texts + 1) * length
    else:
        rows = states[mask].numpy()
        bounds = np.concatenate([[0], mask.sum(1).cumsum(0).numpy()])
    found = torch.from_numpy(run_layers(rows, bounds, *stack.part(first, last)))
    if mask is None:
        return found.view(states.shape)
    padded = torch.zeros_like(states)
    padded[mask] = found
    return padded
