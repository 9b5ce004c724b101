"""BERT layers in 16-bit fixed point: rows of all texts end to end, without padding.

What is between two attentions is done for a block of rows at a time, so that its intermediate
numbers never leave a core's cache; attention is done text by text and head by head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rag.models.fixed_attention import attend
from rag.models.fixed_point import (
    FixedWeights,
    Floats,
    Shorts,
    fix_weights,
    fixed_rows,
    multiply,
)
from rag.models.row_code import add_and_norm, gelu
from rag.models.torch_runtime import fixed_point_wanted
from rag.models.vector_code import COLUMNS, compiled, multiplies_shorts

if TYPE_CHECKING:
    from rag.models.bert_layers import BertLayer

BLOCK_ROWS = 48
"""A multiple of a tile's rows; a block's numbers fit a core's second cache."""


Product = tuple[Shorts, Floats, Floats]
"""A dense layer of all layers of a stack: panels, scales and bias of each, one after the other."""


class FixedStack(NamedTuple):
    """Layers: the product that makes queries, keys and values, and the three after attention.

    `norms` float32 `[layers, 2, 2, d]` are weight and bias of the two norms. Plain tuples, because
    those are what compiled code is handed fastest.
    """

    products: tuple[Product, Product, Product, Product]
    norms: Floats
    n_heads: int
    eps: float

    def part(self, first: int, last: int) -> FixedStack:
        """Layers `first` to before `last`; nothing is copied."""
        read, attended, inner, outer = (
            (panels[first:last], scales[first:last], bias[first:last])
            for panels, scales, bias in self.products
        )
        return self._replace(products=(read, attended, inner, outer), norms=self.norms[first:last])


class LayerWeights(NamedTuple):
    """One layer of a stack."""

    read: FixedWeights
    attended: FixedWeights
    inner: FixedWeights
    outer: FixedWeights
    norms: Floats


def fix_layers(layers: Sequence[BertLayer]) -> FixedStack:
    """Layers of one shape as they are now."""
    return FixedStack(
        (
            _stacked([[layer.query, layer.key, layer.value] for layer in layers]),
            _stacked([[layer.attended] for layer in layers]),
            _stacked([[layer.inner] for layer in layers]),
            _stacked([[layer.outer] for layer in layers]),
        ),
        np.stack([_norms(layer) for layer in layers]),
        layers[0].n_heads,
        float(layers[0].attended_norm.eps),
    )


def _stacked(layers: Sequence[Sequence[Any]]) -> Product:
    fixed = [fix_dense(parts) for parts in layers]
    return (
        np.stack([one.panels for one in fixed]),
        np.stack([one.scales for one in fixed]),
        np.stack([one.bias for one in fixed]),
    )


def _norms(layer: BertLayer) -> Floats:
    parts = [(one.weight, one.bias) for one in (layer.attended_norm, layer.outer_norm)]
    return np.stack([[part.detach().numpy() for part in pair] for pair in parts])


def fix_dense(layers: Sequence[Any]) -> FixedWeights:
    """Dense layers that read the same, as one."""
    weight = torch.cat([layer.weight for layer in layers]).detach()
    bias = torch.cat([layer.bias for layer in layers]).detach()
    return fix_weights(weight.numpy(), bias.numpy())


@compiled
def project(rows: Floats, panels: Shorts, scales: Floats, bias: Floats) -> Floats:
    """Rows `[m, d]` by a dense layer: `[m, n]`."""
    return _project(rows, FixedWeights(panels, scales, bias))


@compiled
def _project(rows: Floats, weights: FixedWeights) -> Floats:
    found = np.empty((len(rows), len(weights.bias)), np.float32)
    for top in range(0, len(rows), BLOCK_ROWS):
        block = rows[top : top + BLOCK_ROWS]
        numbers, scales = fixed_rows(block)
        multiply(numbers, scales, len(block), weights, found, top, 0)
    return found


@compiled
def run_layers(
    states: Floats,
    bounds: NDArray[np.int64],
    products: tuple[Product, Product, Product, Product],
    norms: Floats,
    n_heads: int,
    eps: float,
) -> Floats:
    """States `[m, d]` of texts end to end through a stack's layers, given part by part.

    Text i has the rows from bounds[i] to before bounds[i + 1].
    """
    for number in range(len(norms)):
        layer = LayerWeights(
            _chosen(products[0], number),
            _chosen(products[1], number),
            _chosen(products[2], number),
            _chosen(products[3], number),
            norms[number],
        )
        read = _project(states, layer.read)
        mixed = np.empty(states.shape, np.float32)
        for text in range(len(bounds) - 1):
            first, last = bounds[text], bounds[text + 1]
            attend(read[first:last], n_heads, mixed[first:last])
        found = np.empty(states.shape, np.float32)
        _after_attention(states, mixed, layer, eps, found)
        states = found
    return states


@compiled
def _chosen(product: Product, number: int) -> FixedWeights:
    return FixedWeights(product[0][number], product[1][number], product[2][number])


@compiled
def _after_attention(
    states: Floats, mixed: Floats, layer: LayerWeights, eps: float, found: Floats
) -> None:
    """The rest of a layer: `states` is what it read, `mixed` what its heads made of it."""
    rows = min(len(states), BLOCK_ROWS)
    summed = np.empty((rows, states.shape[1]), np.float32)
    hidden = np.empty((rows, len(layer.inner.bias)), np.float32)
    for top in range(0, len(states), BLOCK_ROWS):
        n_rows = min(BLOCK_ROWS, len(states) - top)
        numbers, scales = fixed_rows(mixed[top : top + n_rows])
        multiply(numbers, scales, n_rows, layer.attended, summed, 0, 0)
        for row in range(n_rows):
            add_and_norm(summed[row], states[top + row], layer.norms[0], eps)
        numbers, scales = fixed_rows(summed[:n_rows])
        multiply(numbers, scales, n_rows, layer.inner, hidden, 0, 0)
        for row in range(n_rows):
            gelu(hidden[row])
        numbers, scales = fixed_rows(hidden[:n_rows])
        multiply(numbers, scales, n_rows, layer.outer, found, top, 0)
        for row in range(n_rows):
            add_and_norm(found[top + row], summed[row], layer.norms[1], eps)


def fixes(states: torch.Tensor, layer: BertLayer) -> bool:
    """Whether states are to be computed in fixed point, and layers like this one can be."""
    return (
        fixed_point_wanted()
        and multiplies_shorts()
        and states.dtype == torch.float32
        and states.device.type == "cpu"
        and torch.is_inference_mode_enabled()
        and _fills_tiles(layer)
    )


def _fills_tiles(layer: BertLayer) -> bool:
    width, wide = layer.attended.weight.shape[0], layer.inner.weight.shape[0]
    sizes = width, wide, width // layer.n_heads
    return all(size % COLUMNS == 0 for size in sizes)


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
