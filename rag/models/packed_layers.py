"""BERT layers for short texts on a CPU: weights laid out once as the product wants them.

A query has some fifteen tokens. Then a product reads each weight once and uses it fifteen times,
and torch's plain product spends as long on rearranging weights as on multiplying. oneDNN's own
layout avoids that, and adds bias and GELU before it writes. From some hundred tokens on
the product itself is what costs, and the plain way is as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from rag.models.bert_layers import BertLayer

SHORT_TOKENS = 256
"""Up to so many tokens in a batch, padding counted, the packed weights are faster."""


def packs(states: torch.Tensor) -> bool:
    """Whether states `[B, L, d]` are computed faster by packed layers, to the same result."""
    return (
        states.shape[0] * states.shape[1] <= SHORT_TOKENS
        and states.dtype == torch.float32
        and states.device.type == "cpu"
        and torch.is_inference_mode_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


class PackedLinear:
    """Owns a dense layer's weights `[n, d]` in oneDNN's layout, for products without gradients."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        with torch.inference_mode():
            self._weight: Any = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
            self._bias = bias.detach().clone()

    def __call__(self, states: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """States `[..., d]` → `[..., n]`, through GELU where `activation` is "gelu"."""
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            states, self._weight, self._bias, activation, [], "none"
        )
        return found


class PackedLayer:
    """A `BertLayer` as it was when this was made. Safe for threads."""

    def __init__(self, layer: BertLayer) -> None:
        reads = (layer.query, layer.key, layer.value)
        self._n_heads = layer.n_heads
        self._read = PackedLinear(
            torch.cat([one.weight for one in reads]), torch.cat([one.bias for one in reads])
        )
        self._attended = PackedLinear(layer.attended.weight, layer.attended.bias)
        self._inner = PackedLinear(layer.inner.weight, layer.inner.bias)
        self._outer = PackedLinear(layer.outer.weight, layer.outer.bias)
        self._attended_norm, self._outer_norm = layer.attended_norm, layer.outer_norm

    def __call__(self, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """As the layer: states `[B, L, d]`, mask bool `[B, 1, 1 or L, L]`."""
        n_rows, length, width = states.shape
        heads = self._read(states).view(n_rows, length, 3, self._n_heads, width // self._n_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(states.shape)
        states = _normed(states + self._attended(mixed), self._attended_norm)
        inner = self._inner(states, "gelu")
        return _normed(states + self._outer(inner), self._outer_norm)


def _normed(states: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
    return functional.layer_norm(states, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
