"""The ONNX graph of a decoder for several sequences, with their caches in the caller's hands.

The tokens fed to all sequences stand one after the other in n rows; only attention looks at them as
a table of b sequences times s places, padded at the end. Inputs:

* `token_ids` int64 `[n]`;
* `places` int64 `[b, s]`, which row stands at each place, any for a padded one; `taken` int64
  `[n]`, at which place each row stands, counted along the table;
* `n_new` int32 `[b]`, places of each sequence that are no padding, 0 for one that waits;
  `last_positions` int32 `[b]`, the position of the last of them; `n_cached` int32 scalar, more than
  any of those positions and not less than s;
* `rows` int64 `[k]`, those whose logits are wanted;
* `keys.i`, `values.i` float32 `[b, n_kv_heads, capacity, head_size]` a layer, with room for s
  tokens behind what each sequence holds.

Outputs: `logits` float32 `[k, vocabulary]`; `new_keys.i`, `new_values.i`. Where a new cache is
bound to the memory of the old one, nothing of the past is copied: `GroupQueryAttention` writes the
new tokens behind it, and forgetting tokens is nothing but a smaller position.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from indexes.errors import ModelError
from rag.models.block_quantize import (
    BLOCK_SIZE,
    block_indicator,
    quantize_affine,
    quantize_symmetric,
)
from rag.models.decoder_shape import DecoderShape
from rag.models.graph_writer import MICROSOFT, GraphWriter

GraphPrecision = Literal["int4", "fp32"]

ACCURACY_LEVEL = 4
"""Activations meet quantised weights as 8-bit integers, scaled block by block (`MatMulNBits`)."""

SPARE_TOKENS = 16
"""Positions behind the context's end that padded places may stand at."""

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

Floats = npt.NDArray[np.float32]
Tensors = Callable[[str], Floats | None]
"""A tensor of the checkpoint by name, None where there is none of that name."""


def write_decoder_graph(
    folder: Path,
    shape: DecoderShape,
    tensors: Tensors,
    precision: GraphPrecision,
) -> None:
    """Write graph and weights into `folder`."""
    with GraphWriter(folder) as graph:
        _Decoder(graph, shape, tensors, precision).write()
        graph.save("decoder")


class _Decoder:
    """One graph in the making: `llama`, `mistral` and `qwen2` as transformers computes them."""

    def __init__(
        self,
        graph: GraphWriter,
        shape: DecoderShape,
        tensors: Tensors,
        precision: GraphPrecision,
    ) -> None:
        self._graph = graph
        self._shape = shape
        self._tensors = tensors
        self._precision = precision
        self._sums: dict[str, str] = {}

    def write(self) -> None:
        graph, shape = self._graph, self._shape
        graph.input("token_ids", np.int64, ["n"])
        graph.input("places", np.int64, ["b", "s"])
        graph.input("taken", np.int64, ["n"])
        graph.input("n_new", np.int32, ["b"])
        graph.input("last_positions", np.int32, ["b"])
        graph.input("n_cached", np.int32, [])
        graph.input("rows", np.int64, ["k"])
        graph.output("logits", np.float32, ["k", shape.vocabulary_size])
        self._write_rotations()
        residual = self._embedding()
        gamma = self._weight("model.layers.0.input_layernorm.weight")
        normed = graph.node(
            "SimplifiedLayerNormalization",
            [residual, gamma],
            "first_norm",
            axis=-1,
            epsilon=shape.norm_epsilon,
            stash_type=1,
        )
        for layer in range(shape.n_layers):
            residual, normed = self._layer(layer, residual, normed)
        self._head(normed)

    def _write_rotations(self) -> None:
        """Cosines and sines `[positions, head_size/2]`, in float32 like transformers'."""
        size = self._shape.head_size
        exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
        frequencies = np.float32(1) / np.float32(self._shape.rope_theta) ** exponents
        positions = np.arange(self._shape.context_length + SPARE_TOKENS, dtype=np.float32)
        angles = positions[:, None] * frequencies.astype(np.float32)
        self._graph.weight("cosines", np.cos(angles))
        self._graph.weight("sines", np.sin(angles))

    def _embedding(self) -> str:
        graph, table = self._graph, self._need(EMBEDDING)
        if self._precision == "fp32":
            graph.weight("embedding", table)
            return graph.node("Gather", ["embedding", "token_ids"], "embedded")
        quantized = quantize_symmetric(table)
        graph.weight("embedding_blocks", quantized.codes)
        flat = graph.reshaped(
            "embedding", "embedding_blocks", [len(table), quantized.codes[0].size]
        )
        scales = graph.weight("embedding_scales", quantized.scales)
        return graph.node(
            "GatherBlockQuantized",
            [flat, "token_ids", scales],
            "embedded",
            domain=MICROSOFT,
            bits=8,
            block_size=BLOCK_SIZE,
            quantize_axis=1,
            gather_axis=0,
        )

    def _layer(self, layer: int, residual: str, normed: str) -> tuple[str, str]:
        """Attention, then feed-forward; the residual stream and its norm for what comes next."""
        graph, shape = self._graph, self._shape
        attended = self._attention(layer, normed)
        is_last = layer == shape.n_layers - 1
        if is_last:
            # All that follows looks at one token alone: the rows nobody asked for end here.
            attended = graph.node("Gather", [attended, "rows"], "attended_rows", axis=0)
            residual = graph.node("Gather", [residual, "rows"], "residual_rows", axis=0)
        projected = self._linear(attended, f"{layer}.o", layer, "self_attn.o_proj")
        gamma = self._weight(f"model.layers.{layer}.post_attention_layernorm.weight")
        residual, normed = self._add_and_norm(residual, projected, gamma, f"{layer}.attention")
        gated = self._linear(normed, f"{layer}.gate_up", layer, "mlp.gate_proj", "mlp.up_proj")
        graph.node("Split", [gated], f"{layer}.gate", more=[f"{layer}.up"], axis=-1, num_outputs=2)
        # QuickGelu with alpha 1 is x * sigmoid(x): SiLU.
        active = graph.node(
            "QuickGelu", [f"{layer}.gate"], f"{layer}.active", domain=MICROSOFT, alpha=1.0
        )
        product = graph.node("Mul", [active, f"{layer}.up"], f"{layer}.product")
        down = self._linear(product, f"{layer}.down", layer, "mlp.down_proj")
        following = "norm" if is_last else f"layers.{layer + 1}.input_layernorm"
        gamma = self._weight(f"model.{following}.weight")
        return self._add_and_norm(residual, down, gamma, f"{layer}.feed_forward")

    def _attention(self, layer: int, normed: str) -> str:
        graph, shape = self._graph, self._shape
        projections = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        qkv = self._linear(normed, f"{layer}.qkv", layer, *projections)
        cache: list[int | str] = ["b", shape.n_kv_heads, "capacity", shape.head_size]
        for kind in ("keys", "values"):
            graph.input(f"{kind}.{layer}", np.float32, cache)
            graph.output(f"new_{kind}.{layer}", np.float32, cache)
        table = graph.node("Gather", [qkv, "places"], f"{layer}.table", axis=0)
        window = shape.windows[layer]
        attended = graph.node(
            "GroupQueryAttention",
            [
                *(table, "", "", f"keys.{layer}", f"values.{layer}"),
                *("last_positions", "n_cached", "cosines", "sines"),
                *("", "", "", "", "", "", "", "n_new"),
            ],
            f"{layer}.attended_table",
            more=[f"new_keys.{layer}", f"new_values.{layer}"],
            domain=MICROSOFT,
            num_heads=shape.n_heads,
            kv_num_heads=shape.n_kv_heads,
            do_rotary=1,
            **({"local_window_size": window} if window else {}),
        )
        width = np.array([-1, shape.n_heads * shape.head_size], np.int64)
        flat = [attended, graph.weight("attended_width", width)]
        places = graph.node("Reshape", flat, f"{layer}.attended_places")
        return graph.node("Gather", [places, "taken"], f"{layer}.attended", axis=0)

    def _add_and_norm(self, residual: str, addend: str, gamma: str, name: str) -> tuple[str, str]:
        """The sum and its RMS norm."""
        self._graph.node(
            "SkipSimplifiedLayerNormalization",
            [residual, addend, gamma],
            f"{name}_norm",
            more=["", "", f"{name}_sum"],
            domain=MICROSOFT,
            epsilon=self._shape.norm_epsilon,
        )
        return f"{name}_sum", f"{name}_norm"

    def _linear(self, x: str, name: str, layer: int, *modules: str) -> str:
        """`x` times the weights of the modules side by side, plus their biases."""
        paths = [f"model.layers.{layer}.{module}" for module in modules]
        weights = np.concatenate([self._need(f"{path}.weight") for path in paths])
        found = (self._tensors(f"{path}.bias") for path in paths)
        biases = [bias for bias in found if bias is not None]
        bias = self._graph.weight(f"{name}.bias", np.concatenate(biases)) if biases else ""
        if self._precision == "int4":
            return self._affine(x, name, weights, bias)
        graph = self._graph
        product = graph.node(
            "MatMul",
            [x, graph.weight(f"{name}.weight", weights.T)],
            f"{name}.product" if bias else name,
        )
        return graph.node("Add", [product, bias], name) if bias else product

    def _affine(self, x: str, name: str, weights: Floats, bias: str) -> str:
        """4-bit weights: the codes' product, plus each block's centre times its inputs' sum.

        sum_i w_i x_i = sum_i (code_i - 8) scale_b(i) x_i + sum_b centre_b (sum of x in b).
        """
        graph, (n_out, n_in) = self._graph, weights.shape
        quantized = quantize_affine(weights)
        codes = graph.weight(f"{name}.codes", quantized.codes)
        scales = graph.weight(f"{name}.scales", quantized.scales)
        product = self._by_codes(
            [x, codes, scales, "", "", bias], f"{name}.by_codes", n_in, n_out, bits=4
        )
        if x not in self._sums:
            indicator = graph.weight(f"blocks_of_{n_in}", block_indicator(n_in))
            self._sums[x] = graph.node("MatMul", [x, indicator], f"{x}.block_sums")
        centres = graph.weight(f"{name}.centres", quantized.centres.T)
        offset = graph.node("MatMul", [self._sums[x], centres], f"{name}.offset")
        return graph.node("Add", [product, offset], name)

    def _by_codes(self, inputs: list[str], name: str, n_in: int, n_out: int, *, bits: int) -> str:
        return self._graph.node(
            "MatMulNBits",
            inputs,
            name,
            domain=MICROSOFT,
            K=n_in,
            N=n_out,
            bits=bits,
            block_size=BLOCK_SIZE,
            accuracy_level=ACCURACY_LEVEL,
        )

    def _head(self, x: str) -> None:
        """Logits; 8-bit weights at int4, where a 4-bit head would cost more text than it saves."""
        graph, shape = self._graph, self._shape
        if self._precision == "fp32" and shape.tied:
            graph.node("Gemm", [x, "embedding"], "logits", transB=1)
            return
        if self._precision == "fp32":
            weights = graph.weight("head", self._need(HEAD).T)
            graph.node("MatMul", [x, weights], "logits")
            return
        codes, scales = "embedding_blocks", "embedding_scales"
        if not shape.tied:
            quantized = quantize_symmetric(self._need(HEAD))
            codes = graph.weight("head_codes", quantized.codes)
            scales = graph.weight("head_scales", quantized.scales)
        inputs = [x, codes, scales]
        self._by_codes(inputs, "logits", shape.hidden_size, shape.vocabulary_size, bits=8)

    def _weight(self, name: str) -> str:
        return self._graph.weight(name, self._need(name))

    def _need(self, name: str) -> Floats:
        tensor = self._tensors(name)
        if tensor is None:
            raise ModelError(f"the weights lack {name}")
        return tensor
