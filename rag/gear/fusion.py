"""The fusion encoder: the question's encoder, each of whose layers also looks at the document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from rag.models.bert_layers import BertLayer, BertShape

GATE = 0.1
"""What a fusion layer adds of the document at first: little, so it begins as the question's."""


class Memory(NamedTuple):
    """Documents' token states `[B, N, d]` and what of them is no padding, bool `[B, N]` or None."""

    states: torch.Tensor
    mask: torch.Tensor | None


class Fusion(NamedTuple):
    """Fused states `[B, M, d]` of the question's tokens and each layer's attention.

    `attention[l]` `[B, heads, M, N]` is what layer l + 1 takes of each document token; its last
    axis sums to 1.
    """

    states: torch.Tensor
    attention: list[torch.Tensor]


class CrossAttention(nn.Module):  # type: ignore[misc]
    """states + gate · W_o · softmax(W_q states · (W_k memory)ᵀ / √d_head) · W_v memory."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        width = shape.hidden_size
        self.n_heads = shape.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attended = nn.Linear(width, width)
        self.gate = nn.Parameter(torch.full((1,), GATE))

    def begin_as(self, layer: BertLayer) -> None:
        """Begin with the projections of a layer's self-attention."""
        for name in ("query", "key", "value", "attended"):
            getattr(self, name).load_state_dict(getattr(layer, name).state_dict())

    def forward(self, states: torch.Tensor, memory: Memory) -> tuple[torch.Tensor, torch.Tensor]:
        """States `[B, M, d]` → the same shape, and the attention `[B, heads, M, N]`."""
        asked, keys = self.query(states), self.key(memory.states)
        mixed, attention = self.look(asked, keys, self.value(memory.states), memory.mask)
        return states + self.gate * self.attended(mixed), attention

    def look(
        self,
        asked: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Projected queries `[B, M, d]`, keys and values `[B, N, d]` → what the heads read of them.

        That is `[B, M, d]` and the attention `[B, heads, M, N]`.
        """
        scores = (self._heads(asked) @ self._heads(keys).transpose(-1, -2)).float()
        scores = scores * (asked.shape[-1] // self.n_heads) ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        attention = scores.softmax(-1)
        mixed = attention.to(values.dtype) @ self._heads(values)
        return mixed.transpose(1, 2).reshape(asked.shape), attention

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """`[B, L, d]` → `[B, heads, L, d / heads]`."""
        n_rows, length, width = states.shape
        return states.view(n_rows, length, self.n_heads, width // self.n_heads).transpose(1, 2)


class FusionBlocks(nn.Module):  # type: ignore[misc]
    """One cross-attention block for each layer of the question's encoder, applied after it."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CrossAttention(shape) for _ in range(shape.num_hidden_layers))

    def fuse(
        self,
        layers: Sequence[BertLayer],
        states: torch.Tensor,
        mask: torch.Tensor | None,
        memory: Memory,
    ) -> Fusion:
        """Embedded questions `[B, M, d]` through all layers, looking at a document each."""
        read = None if mask is None else mask[:, None, None, :]
        attention = []
        for layer, block in zip(layers, self.blocks, strict=True):
            states, looked = block(layer(states, read), memory)
            attention.append(looked)
        return Fusion(states, attention)
