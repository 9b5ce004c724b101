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
import torch
from numpy.typing import NDArray

from rag.gear.fusion import CrossAttention, Fusion, Memory
from rag.models.dense_product import (
    DenseWeights,
    Stacked,
    layer_of,
    project,
    round_dense,
    stacked,
)
from rag.models.fixed_attention import filled, fix_keys, fix_values, look, room_for
from rag.models.fixed_layers import FixedStack, run_fixed
from rag.models.fixed_point import FixedWeights, Floats, Shorts, fix_weights
from rag.models.torch_runtime import Rounding
from rag.models.vector_code import COLUMNS, compiled

QUERIES = 24
"""Of a question's heads at a time: a document's states come from the second cache for each."""


class BlockWeights(NamedTuple):
    """A block's: `key` `[d / heads]` → `[d]` and `value` `[d]` → `[d / heads]` are by head."""

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
        self,
        layers: Sequence[FixedStack],
        blocks: Sequence[CrossAttention],
        rounding: Rounding,
    ) -> None:
        """`layers` are stacks of one."""
        self._layers = list(layers)
        self._gates = [np.float32(block.gate.item()) for block in blocks]
        self._n_heads = blocks[0].n_heads
        self._weights = [_rounded(block, rounding) for block in blocks]

    def fuse(self, states: torch.Tensor, mask: torch.Tensor | None, memory: Memory) -> Fusion:
        """As `FusionBlocks.fuse`."""
        fixed = fix_memory(*_end_to_end(memory))
        shape = len(states), self._n_heads, states.shape[1], memory.states.shape[1]
        attention = []
        for layer, weights, gate in zip(self._layers, self._weights, self._gates, strict=True):
            states = run_fixed(layer, states, mask, 0, 1)
            looked = np.zeros(shape, np.float32)
            states = torch.from_numpy(look_at(states.numpy(), fixed, weights, gate, looked))
            attention.append(torch.from_numpy(looked))
        return Fusion(states, attention)


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


def _end_to_end(memory: Memory) -> tuple[Floats, NDArray[np.int64]]:
    """The documents' states without padding, and where each one begins and the last one ends."""
    n_documents, length, width = memory.states.shape
    if memory.mask is None:
        return memory.states.reshape(-1, width).numpy(), np.arange(n_documents + 1) * length
    bounds = np.concatenate([[0], memory.mask.sum(1).cumsum(0).numpy()])
    return memory.states[memory.mask].numpy(), bounds


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
def look_at(
    states: Floats,
    memory: FixedMemory,
    weights: BlockWeights,
    gate: np.float32,
    attention: Floats,
) -> Floats:
    """States `[b, m, d]` and what a block adds to them, looking at a document each.

    What the heads attend to is written to `attention` `[b, heads, m, longest]`, all 0 before.
    """
    n_texts, n_asked, width = states.shape
    n_heads = attention.shape[1]
    n_rows, size = n_texts * n_asked, width // n_heads
    asked = project(states.reshape((n_rows, width)), weights.query)
    queries = np.empty((n_texts, n_heads, n_asked, width), np.float32)
    for head in range(n_heads):
        part = asked[:, head * size : (head + 1) * size].copy()
        found = project(part, layer_of(weights.key, head))
        queries[:, head] = found.reshape((n_texts, n_asked, width))
    seen = np.empty(queries.shape, np.float32)
    flat = n_heads * n_asked, width
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
            attention[text].reshape((n_heads * n_asked, attention.shape[3])),
        )
        first += filled(length)
    mixed = np.empty((n_rows, width), np.float32)
    for head in range(n_heads):
        part = seen[:, head].copy().reshape((n_rows, width))
        mixed[:, head * size : (head + 1) * size] = project(part, layer_of(weights.value, head))
    added = project(mixed, weights.attended).reshape((n_texts, n_asked, width))
    return states + gate * added
