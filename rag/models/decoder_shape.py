"""What a decoder-only model's `config.json` says about the graph that has to be built for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from indexes.errors import ModelError, Unsupported
from rag.models.block_quantize import BLOCK_SIZE
from rag.models.safety import read_object

MODEL_TYPES = ("llama", "mistral", "qwen2")
"""Pre-norm decoders with rotary positions, RMS norms and a SiLU-gated feed-forward."""

_T = TypeVar("_T")


class DecoderShape(msgspec.Struct, frozen=True):
    """Sizes of a decoder; `windows` has each layer's sliding window in tokens, 0 for none."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    hidden_size: int
    context_length: int
    vocabulary_size: int
    norm_epsilon: float
    rope_theta: float
    windows: tuple[int, ...]
    tied: bool


def read_decoder_shape(folder: Path) -> DecoderShape:
    """The shape that the folder's `config.json` describes.

    Raises `Unsupported` where the graph builder lacks something this model needs: it then runs on
    torch. Raises `ModelError` for a config without the sizes.
    """
    config = read_object(folder / "config.json")
    if config is None:
        raise ModelError(f"{folder} has no config.json: it is not a model's folder")
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise Unsupported(f"no graph is built for {model_type!r}: {', '.join(MODEL_TYPES)} only")
    if config.get("hidden_act", "silu") != "silu":
        raise Unsupported(f"no graph is built for the activation {config['hidden_act']!r}")
    hidden_size, n_heads = (
        _need(config, "hidden_size", int),
        _need(config, "num_attention_heads", int),
    )
    head_size = int(config.get("head_dim") or hidden_size // n_heads)
    if head_size % 16:
        raise Unsupported(f"no graph is built for heads of {head_size}: multiples of 16 only")
    if hidden_size % BLOCK_SIZE:
        raise Unsupported(f"no graph is built for a width of {hidden_size}: multiples of 32 only")
    n_layers = _need(config, "num_hidden_layers", int)
    return DecoderShape(
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=int(config.get("num_key_value_heads") or n_heads),
        head_size=head_size,
        hidden_size=hidden_size,
        context_length=_need(config, "max_position_embeddings", int),
        vocabulary_size=_need(config, "vocab_size", int),
        norm_epsilon=float(config.get("rms_norm_eps", 1e-6)),
        rope_theta=_rope_theta(config),
        windows=_windows(config, n_layers),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def _need(config: dict[str, Any], key: str, kind: type[_T]) -> _T:
    value = config.get(key)
    if not isinstance(value, kind):
        raise ModelError(f"config.json says nothing usable about `{key}`: {value!r}")
    return value


def _rope_theta(config: dict[str, Any]) -> float:
    """The base of the rotary frequencies, from the new place for it or the old one."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise Unsupported(f"no graph is built for rotary positions of type {kind!r}")
    return float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)


def _windows(config: dict[str, Any], n_layers: int) -> tuple[int, ...]:
    """As transformers reads them: Qwen2 has a switch, Mistral a window on every layer."""
    window = int(config.get("sliding_window") or 0)
    if config["model_type"] == "llama" or not config.get("use_sliding_window", True):
        window = 0
    if config["model_type"] == "qwen2" and window:
        types = config.get("layer_types")
        if types is None:
            first = int(config.get("max_window_layers", 28))
            types = [
                "sliding_attention" if i >= first else "full_attention" for i in range(n_layers)
            ]
        return tuple(window if kind == "sliding_attention" else 0 for kind in types)
    return (window,) * n_layers
