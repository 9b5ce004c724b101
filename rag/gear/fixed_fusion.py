"""The fusion pass in fixed point: the same layers and blocks, other products.

Rows of all documents are end to end, without padding, and a block is one call of compiled code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rag.gear.fusion import CrossAttention, Fusion, Memory
from rag.models.dense_product import DenseWeights, project, round_dense
from rag.models.fixed_attention import Read, look
from rag.models.fixed_layers import FixedStack, run_fixed
from rag.models.fixed_point import Floats
from rag.models.torch_runtime import Rounding
from rag.models.vector_code import compiled


class FixedFusion:
    """A network's fusion encoder as it was when this was made. Safe for threads."""

    def __init__(
        self,
        layers: Sequence[tuple[FixedStack, int]],
        blocks: Sequence[CrossAttention],
        rounding: Rounding,
    ) -> None:
        """`layers` are stacks and numbers in them."""
        self._layers = list(layers)
        self._gates = [np.float32(block.gate.item()) for block in blocks]
        self._n_heads = blocks[0].n_heads
        self._weights = [
            (
                round_dense([block.query], rounding),
                round_dense([block.key, block.value], rounding),
                round_dense([block.attended], rounding),
            )
            for block in blocks
        ]

    def fuse(self, states: torch.Tensor, mask: torch.Tensor | None, memory: Memory) -> Fusion:
        """As `FusionBlocks.fuse`."""
        rows, bounds = _end_to_end(memory)
        shape = len(states), self._n_heads, states.shape[1], memory.states.shape[1]
        attention = []
        for (stack, place), weights, gate in zip(
            self._layers, self._weights, self._gates, strict=True
        ):
            states = run_fixed(stack, states, mask, place, place + 1)
            looked = np.zeros(shape, np.float32)
            found = look_at(states.numpy(), rows, bounds, *weights, gate, looked)
            states = torch.from_numpy(found)
            attention.append(torch.from_numpy(looked))
        return Fusion(states, attention)


def _end_to_end(memory: Memory) -> tuple[Floats, NDArray[np.int64]]:
    """The documents' states without padding, and where each one begins and the last one ends."""
    n_documents, length, width = memory.states.shape
    if memory.mask is None:
        return memory.states.reshape(-1, width).numpy(), np.arange(n_documents + 1) * length
    bounds = np.concatenate([[0], memory.mask.sum(1).cumsum(0).numpy()])
    return memory.states[memory.mask].numpy(), bounds


@compiled
def look_at(
    states: Floats,
    rows: Floats,
    bounds: NDArray[np.int64],
    by_query: DenseWeights,
    by_memory: DenseWeights,
    by_mixed: DenseWeights,
    gate: np.float32,
    attention: Floats,
) -> Floats:
    """States `[b, m, d]` and what a block adds to them, looking at a document each.

    Document i has the rows from bounds[i] to before bounds[i + 1]. What the heads attend to is
    written to `attention` `[b, heads, m, longest]`, all 0 before.
    """
    n_texts, n_asked, width = states.shape
    asked = project(states.reshape(n_texts * n_asked, width), by_query)
    read = project(rows, by_memory)
    mixed = np.empty((n_texts * n_asked, width), np.float32)
    for text in range(n_texts):
        first, last = text * n_asked, (text + 1) * n_asked
        document = Read(read[bounds[text] : bounds[text + 1]], 0, width)
        look(asked[first:last], document, attention.shape[1], mixed[first:last], attention[text])
    added = project(mixed, by_mixed).reshape(n_texts, n_asked, width)
    return states + gate * added
