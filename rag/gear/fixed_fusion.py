"""The fusion pass in fixed point: the same layers and blocks, other products.

A document has far more tokens than a question, and each block has keys and values of its own, so
they are not computed. Of head h, q · (W_k m + b_k) = (W_kᵀ q) · m + q · b_k, whose last term every
token of the document shares and the softmax cancels: what is multiplied with the document's states
is the question's W_kᵀ q. As weights that sum to 1 are mixed, Σ_n p_n (W_v m_n + b_v) is
W_v (Σ_n p_n m_n) + b_v. The states are rounded once for all blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rag.gear.fusion import CrossAttention
from rag.models.dense_product import (
    DenseWeights,
    Stacked,
    layer_of,
    project,
    round_dense,
    stacked,
)
from rag.models.fixed_attention import filled, fix_keys, fix_values, look, room_for
from rag.models.fixed_layers import FixedStack, run_layer
from rag.models.fixed_point import FixedWeights, Floats, Shorts, fix_weights
from rag.models.torch_runtime import Rounding
from rag.models.vector_code import COLUMNS, compiled

QUERIES = 24
"""Of a question's heads at a time: a document's states come from the second cache for each."""


BlockStack = tuple[Stacked, Stacked, Stacked, Stacked]
"""Of all blocks: the queries' layer, each head's `[d / heads]` → `[d]` of W_k, each head's `[d]` →
`[d / heads]` of W_v, and the layer after them. Those of heads are stacked twice."""


class BlockWeights(NamedTuple):
    """One block's."""

    query: DenseWeights
    key: Stacked
    value: Stacked
    attended: DenseWeights


class FixedMemory(NamedTuple):
    """Documents' states as weights: of scores, an output a token, and of mixtures, an input each.

    Document i has tokens bounds[i] to before bounds[i + 1]; `keys` int16 `[panels, d / 2, 16, 2]`
    and `key_scales` are of all documents, one after the other, each in whole panels; `values` are
    flat, with `value_scales` float32 `[documents, d]`.
    """

    bounds: NDArray[np.int64]
    keys: Shorts
    key_scales: Floats
    values: Shorts
    value_scales: Floats


class FixedFusion:
    """A network's fusion encoder as it was when this was made. Safe for threads."""

    def __init__(
        self, stack: FixedStack, blocks: Sequence[CrossAttention], rounding: Rounding
    ) -> None:
        self._stack = stack
        self._gates = np.array([block.gate.item() for block in blocks], np.float32)
        rounded = [_rounded(block, rounding) for block in blocks]
        query, key, value, attended = zip(*rounded, strict=True)
        self._blocks = stacked(query), stacked(key), stacked(value), stacked(attended)

    def fuse(
        self, asked: Floats, rows: Floats, bounds: NDArray[np.int64], weights: Floats
    ) -> tuple[Floats, Floats]:
        """One embedded question `[m, d]` with each of some documents: its fused states `[b, m, d]`.

        `rows` `[n, d]` are states of documents end to end; i's are from bounds[i] to before
        bounds[i + 1]. With them come mixtures, by `weights` `[k, m]`, of the attention of the
        question's tokens: `[layers, b, k, heads, longest]`, 0 past a document's end.
        """
        n_texts, longest = len(bounds) - 1, int(np.diff(bounds).max())
        shape = len(self._gates), n_texts, len(weights), self._stack.n_heads, longest
        looked = np.zeros(shape, np.float32)
        memory = fix_memory(rows, bounds)
        found = fuse_layers(asked, memory, *self._stack, self._blocks, self._gates, weights, looked)
        return found, looked


def _rounded(block: CrossAttention, rounding: Rounding) -> BlockWeights:
    heads = block.n_heads
    key, value = (part.weight.detach().numpy() for part in (block.key, block.value))
    bias = block.value.bias.detach().numpy()
    none = np.zeros(len(key), np.float32)
    by_head = zip(np.split(key, heads), np.split(value, heads), np.split(bias, heads), strict=True)
    keys, values = zip(
        *((fix_weights(k.T, none), fix_weights(v, added)) for k, v, added in by_head), strict=True
    )
    return BlockWeights(
        round_dense([block.query], rounding),
        stacked(keys),
        stacked(values),
        round_dense([block.attended], rounding),
    )


@compiled
def fix_memory(rows: Floats, bounds: NDArray[np.int64]) -> FixedMemory:
    """States `[m, d]` of documents end to end."""
    width, n_texts = rows.shape[1], len(bounds) - 1
    n_filled = 0
    for text in range(n_texts):
        n_filled += filled(bounds[text + 1] - bounds[text])
    keys = np.zeros((n_filled // COLUMNS, width // 2, COLUMNS, 2), np.int16)
    key_scales = np.zeros(n_filled, np.float32)
    values = np.zeros(n_filled * width, np.int16)
    value_scales = np.empty((n_texts, width), np.float32)
    memory = FixedMemory(bounds, keys, key_scales, values, value_scales)
    first = 0
    for text in range(n_texts):
        states = rows[bounds[text] : bounds[text + 1]]
        by_key, by_value = _text_of(memory, text, first)
        fix_keys(states, 0, width, by_key.panels, by_key.scales)
        fix_values(states, 0, width, by_value.panels, by_value.scales)
        first += filled(len(states))
    return memory


@compiled
def _text_of(memory: FixedMemory, text: int, first: int) -> tuple[FixedWeights, FixedWeights]:
    """A document's states as keys and as values; `first` is where it begins, in whole panels."""
    width = memory.value_scales.shape[1]
    n_filled = filled(memory.bounds[text + 1] - memory.bounds[text])
    last = first + n_filled
    nothing = np.zeros(max(n_filled, width), np.float32)
    keys = memory.keys[first // COLUMNS : last // COLUMNS]
    values = memory.values[first * width : last * width]
    return (
        FixedWeights(keys, memory.key_scales[first:last], nothing),
        FixedWeights(
            values.reshape((width // COLUMNS, n_filled // 2, COLUMNS, 2)),
            memory.value_scales[text],
            nothing,
        ),
    )


@compiled
def fuse_layers(
    asked: Floats,
    memory: FixedMemory,
    products: tuple[Stacked, Stacked, Stacked, Stacked],
    norms: Floats,
    n_heads: int,
    eps: float,
    blocks: BlockStack,
    gates: Floats,
    weights: Floats,
    looked: Floats,
) -> Floats:
    """See `FixedFusion.fuse`: the mixtures of attention are added to `looked`, all 0 before."""
    n_asked, width = asked.shape
    n_texts = len(memory.bounds) - 1
    bounds = np.arange(n_texts + 1) * n_asked
    # Before the first look at a document the question is the same for all.
    alone = run_layer(asked, bounds[:2], 0, products, norms, n_heads, eps)
    states = np.empty((n_texts * n_asked, width), np.float32)
    for text in range(n_texts):
        states[bounds[text] : bounds[text + 1]] = alone
    for number in range(len(gates)):
        if number:
            states = run_layer(states, bounds, number, products, norms, n_heads, eps)
        block = BlockWeights(
            layer_of(blocks[0], number),
            layer_of(blocks[1], number),
            layer_of(blocks[2], number),
            layer_of(blocks[3], number),
        )
        _look_at(states, memory, block, gates[number], weights, looked[number])
    return states.reshape((n_texts, n_asked, width))


@compiled
def _look_at(
    states: Floats,
    memory: FixedMemory,
    block: BlockWeights,
    gate: np.float32,
    weights: Floats,
    looked: Floats,
) -> None:
    """Add to states `[b · m, d]` what a block does, looking at a document each.

    The mixtures of what the heads attend to are added to `looked` `[b, k, heads, longest]`.
    """
    n_texts, n_kinds, n_heads, longest = looked.shape
    n_rows, width = states.shape
    n_asked, size = n_rows // n_texts, width // n_heads
    asked = project(states, block.query)
    queries = np.empty((n_texts, n_heads, n_asked, width), np.float32)
    for head in range(n_heads):
        part = asked[:, head * size : (head + 1) * size].copy()
        found = project(part, layer_of(block.key, head))
        queries[:, head] = found.reshape((n_texts, n_asked, width))
    seen = np.empty(queries.shape, np.float32)
    flat = n_heads * n_asked, width
    shares = np.empty((n_heads * n_asked, longest), np.float32)
    first = 0
    for text in range(n_texts):
        keys, values = _text_of(memory, text, first)
        length = memory.bounds[text + 1] - memory.bounds[text]
        look(
            queries[text].reshape(flat),
            0,
            size,
            keys,
            values,
            length,
            room_for(QUERIES, width, length),
            seen[text].reshape(flat),
            0,
            shares,
        )
        for kind in range(n_kinds):
            for row in range(n_heads * n_asked):
                weight = weights[kind, row % n_asked]
                if weight:
                    _add_weighted(shares[row, :length], weight, looked[text, kind, row // n_asked])
        first += filled(length)
    mixed = np.empty((n_rows, width), np.float32)
    for head in range(n_heads):
        part = seen[:, head].copy().reshape((n_rows, width))
        mixed[:, head * size : (head + 1) * size] = project(part, layer_of(block.value, head))
    added = project(mixed, block.attended)
    for row in range(n_rows):
        _add_weighted(added[row], gate, states[row])


@compiled
def _add_weighted(values: Floats, weight: np.float32, sums: Floats) -> None:
    """Add values `[n]` times a weight to the first n of sums."""
    for place in range(len(values)):
        sums[place] += weight * values[place]
