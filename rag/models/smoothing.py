"""Moving the spread of activations into the weights before both are rounded to 8 bits.

A few channels of a decoder's activations are far larger than the rest, and a row's steps are as
wide as its largest needs. Dividing an input channel by s and multiplying its weights by s changes
nothing before rounding and spreads the loss over both (SmoothQuant, 2211.10438, eq. 4 with alpha
1/2). Nothing is left to divide at run time: norms, the values' projection and the feed-forward's
upper projection take the division.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from indexes.errors import ModelError
from rag.models.decoder_graph import EMBEDDING, HEAD, Floats, Tensors
from rag.models.decoder_shape import DecoderShape

SMALLEST = 1e-5
"""Magnitudes count as at least this: a channel that was silent, or has no weights, stays finite."""

_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GATE_UP = ("mlp.gate_proj", "mlp.up_proj")


def smoothed(tensors: Tensors, shape: DecoderShape, largest: Mapping[str, Floats]) -> Tensors:
    """The same model in other numbers.

    `largest` has, for the input of `qkv`, `o`, `gate_up` and `down` of each layer ("3.down") and
    of `head`, each channel's largest magnitude `[n_in]`. A tied head is found as a tensor of its
    own, since the embedding stays as it is.
    """
    changes: dict[str, list[Callable[[Floats], Floats]]] = {}

    def change(name: str, how: Callable[[Floats], Floats]) -> None:
        changes.setdefault(name, []).append(how)

    for layer in range(shape.n_layers):
        base = f"model.layers.{layer}"
        for kind, norm, modules in (
            ("qkv", "input_layernorm", _QKV),
            ("gate_up", "post_attention_layernorm", _GATE_UP),
        ):
            names = [f"{base}.{module}.weight" for module in modules]
            scales = _scales(largest[f"{layer}.{kind}"], [_need(tensors, name) for name in names])
            change(f"{base}.{norm}.weight", _divided(scales))
            for name in names:
                change(name, _multiplied(scales))
        down = f"{base}.mlp.down_proj.weight"
        scales = _scales(largest[f"{layer}.down"], [_need(tensors, down)])
        change(down, _multiplied(scales))
        for suffix in ("weight", "bias"):
            change(f"{base}.mlp.up_proj.{suffix}", _divided_rows(scales))
        out = f"{base}.self_attn.o_proj.weight"
        shared, repeated = _shared_scales(largest[f"{layer}.o"], _need(tensors, out), shape)
        change(out, _multiplied(repeated))
        for suffix in ("weight", "bias"):
            change(f"{base}.self_attn.v_proj.{suffix}", _divided_rows(shared))
    head = EMBEDDING if shape.tied else HEAD
    scales = _scales(largest["head"], [_need(tensors, head)])
    change("model.norm.weight", _divided(scales))
    change(HEAD, _multiplied(scales))

    def read(name: str) -> Floats | None:
        tensor = tensors(head if name == HEAD else name)
        for how in changes.get(name, ()):
            tensor = None if tensor is None else how(tensor)
        return tensor

    return read


def _scales(largest: Floats, weights: list[Floats]) -> Floats:
    """What each input channel is divided by, `[n_in]`; their geometric mean is 1."""
    most = np.max([np.abs(one).max(axis=0) for one in weights], axis=0)
    return _balanced(largest, most)


def _shared_scales(largest: Floats, weights: Floats, shape: DecoderShape) -> tuple[Floats, Floats]:
    """Scales of the values' channels, and the same for each head that reads them."""
    by_group = (shape.n_kv_heads, -1, shape.head_size)
    most = np.abs(weights).max(axis=0)
    scales = _balanced(
        largest.reshape(by_group).max(axis=1).ravel(), most.reshape(by_group).max(axis=1).ravel()
    )
    grouped = scales.reshape(shape.n_kv_heads, 1, shape.head_size)
    n_groups = shape.n_heads // shape.n_kv_heads
    return scales, np.repeat(grouped, n_groups, axis=1).ravel()


def _balanced(activations: Floats, weights: Floats) -> Floats:
    ratio = np.maximum(activations, SMALLEST) / np.maximum(weights, SMALLEST)
    halves = np.log(ratio.astype(np.float64)) / 2
    scales: Floats = np.exp(halves - halves.mean()).astype(np.float32)
    return scales


def _multiplied(scales: Floats) -> Callable[[Floats], Floats]:
    return lambda tensor: tensor * scales


def _divided(scales: Floats) -> Callable[[Floats], Floats]:
    return lambda tensor: tensor / scales


def _divided_rows(scales: Floats) -> Callable[[Floats], Floats]:
    return lambda tensor: tensor / scales.reshape(-1, *[1] * (tensor.ndim - 1))


def _need(tensors: Tensors, name: str) -> Floats:
    tensor = tensors(name)
    if tensor is None:
        raise ModelError(f"the weights lack {name}")
    return tensor
