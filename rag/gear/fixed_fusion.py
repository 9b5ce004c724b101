"""The fusion pass in 16-bit fixed point: the same layers and blocks, other products.

All blocks' keys and values are of the same document states: one product makes them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from rag.gear.fusion import CrossAttention, Fusion, Memory
from rag.models.fixed_layers import FixedStack, fix_dense, project, run_fixed
from rag.models.fixed_point import FixedWeights


class FixedFusion:
    """A network's fusion encoder as it was when this was made. Safe for threads."""

    def __init__(
        self, layers: Sequence[tuple[FixedStack, int]], blocks: Sequence[CrossAttention]
    ) -> None:
        """`layers` are stacks and numbers in them."""
        self._layers = list(layers)
        self._blocks = list(blocks)
        self._asked = [fix_dense([block.query]) for block in blocks]
        self._attended = [fix_dense([block.attended]) for block in blocks]
        read: list[nn.Linear] = [part for block in blocks for part in (block.key, block.value)]
        self._read = fix_dense(read)

    def fuse(self, states: torch.Tensor, mask: torch.Tensor | None, memory: Memory) -> Fusion:
        """As `FusionBlocks.fuse`."""
        read = _projected(memory.states, self._read).chunk(2 * len(self._blocks), -1)
        attention = []
        for number, block in enumerate(self._blocks):
            stack, place = self._layers[number]
            states = run_fixed(stack, states, mask, place, place + 1)
            asked = _projected(states, self._asked[number])
            keys, values = read[2 * number : 2 * number + 2]
            mixed, looked = block.look(asked, keys, values, memory.mask)
            states = states + block.gate * _projected(mixed, self._attended[number])
            attention.append(looked)
        return Fusion(states, attention)


def _projected(states: torch.Tensor, weights: FixedWeights) -> torch.Tensor:
    """States `[B, L, d]` by a dense layer: `[B, L, n]`."""
    rows = states.reshape(-1, states.shape[-1])
    found = torch.from_numpy(project(rows.numpy(), *weights))
    return found.view(*states.shape[:-1], -1)
