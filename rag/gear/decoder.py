"""The text decoder: what the fused question says about the document, in words."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from rag.gear.fusion import Memory
from rag.models.bert_layers import BertShape


class DecoderLayer(nn.Module):  # type: ignore[misc]
    """Causal self-attention, attention to the fused question, two dense layers; pre-norm."""

    def __init__(self, shape: BertShape, inner: int) -> None:
        super().__init__()
        width = shape.hidden_size
        self.n_heads = shape.num_attention_heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=shape.layer_norm_eps) for _ in range(3))
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.inner, self.outer = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, states: torch.Tensor, memory: Memory) -> torch.Tensor:
        """States `[B, T, d]` → the same shape; place t sees places up to t."""
        own = self.norms[0](states)
        states = states + self._attend(self.own, own, own, None, causal=True)
        looked = self._attend(self.cross, self.norms[1](states), memory.states, memory.mask)
        states = states + looked
        added: torch.Tensor = self.outer(functional.gelu(self.inner(self.norms[2](states))))
        return states + added

    def _attend(
        self,
        parts: nn.ModuleList,
        states: torch.Tensor,
        source: torch.Tensor,
        mask: torch.Tensor | None,
        *,
        causal: bool = False,
    ) -> torch.Tensor:
        query, key, value, attended = parts
        asked, keys, values = (
            self._heads(query(states)),
            self._heads(key(source)),
            self._heads(value(source)),
        )
        read = None if mask is None else mask[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(
            asked, keys, values, attn_mask=read, is_causal=causal
        )
        found: torch.Tensor = attended(mixed.transpose(1, 2).reshape(states.shape))
        return found

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        n_rows, length, width = states.shape
        return states.view(n_rows, length, self.n_heads, width // self.n_heads).transpose(1, 2)


class TextDecoder(nn.Module):  # type: ignore[misc]
    """Layers and a head; words go in and come out by the base's embeddings, which stay as they are.

    The head is the published one of masked models: dense, GELU, LayerNorm, then the embeddings
    and a bias.
    """

    def __init__(self, shape: BertShape, n_layers: int, inner: int) -> None:
        super().__init__()
        width = shape.hidden_size
        self.layers = nn.ModuleList(DecoderLayer(shape, inner) for _ in range(n_layers))
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=shape.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(shape.vocab_size))

    def forward(self, embedded: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Embedded words `[B, T, d]` → states `[B, T, d]` that predict the word after each."""
        states = embedded
        for layer in self.layers:
            states = layer(states, memory)
        found: torch.Tensor = self.norm(functional.gelu(self.dense(states)))
        return found

    def logits(self, states: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """States `[..., d]` and the embeddings `[V, d]` → `[..., V]`."""
        return functional.linear(states, words.to(states.dtype), self.bias.to(states.dtype))
