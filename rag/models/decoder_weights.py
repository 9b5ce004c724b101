"""A decoder's weights in 8 bits, in the order in which the compiled loops read them.

A linear layer has its outputs in tiles of 16, `[n_tiles, n_in / 2, 16, 2]` int8: one vector holds a
pair of inputs for each output of a tile. The gate's and the upper projection's tiles take turns.
Widths are padded with zeros to whole pairs of tiles. Scales and biases stand beside in float32, one
an output; the embedding, of which few rows are read, keeps blocks of 32 as in Q8_0.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexes.errors import ModelError
from rag.models.block_quantize import quantize_symmetric
from rag.models.channel_quantize import quantize_channels
from rag.models.decoder_arrays import (
    ATTENTION_NORM,
    BIAS,
    CODES,
    DOWN,
    FEED_FORWARD_NORM,
    GATE_UP,
    LAST_NORM,
    OUT,
    QKV,
    SCALES,
    UNIT,
    Sizes,
    Weights,
    Work,
)
from rag.models.decoder_code import LANES
from rag.models.decoder_graph import EMBEDDING, HEAD, Floats, Tensors
from rag.models.decoder_shape import DecoderShape

PACKED = "weights.safetensors"
"""The file's name in a model's folder."""

_N_PLACES = FEED_FORWARD_NORM + 1
_MODULES = (
    (QKV, ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    (OUT, ("self_attn.o_proj",)),
    (GATE_UP, ("mlp.gate_proj", "mlp.up_proj")),
    (DOWN, ("mlp.down_proj",)),
)


def padded(n_outputs: int) -> int:
    """Outputs with those of zeros that fill the last pair of tiles."""
    width = UNIT * LANES
    return -(-n_outputs // width) * width


def tiled(codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """`[n_out, n_in]`, both padded, to `[n_out / 16, n_in / 2, 16, 2]`."""
    n_out, n_in = codes.shape
    tiles = codes.reshape(n_out // LANES, LANES, n_in // 2, 2)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1, 3))


class _Packer:
    """Collects codes and numbers, and where each part begins."""

    def __init__(self, tensors: Tensors, n_layers: int) -> None:
        self._tensors = tensors
        self.codes: list[NDArray[np.int8]] = []
        self.numbers: list[Floats] = []
        self.places = np.zeros((n_layers + 1, _N_PLACES), np.int64)
        self._n_codes = self._n_numbers = 0

    def need(self, name: str) -> Floats:
        """A tensor of the checkpoint; raises `ModelError` where it is not there."""
        tensor = self._tensors(name)
        if tensor is None:
            raise ModelError(f"the weights lack {name}")
        return tensor

    def add_linear(self, row: int, column: int, weights: Floats, bias: Floats) -> None:
        """Weights `[n_out, n_in]`, both padded."""
        quantized = quantize_channels(weights)
        self.places[row, column + CODES] = self._n_codes
        self.codes.append(tiled(quantized.codes).ravel())
        self._n_codes += quantized.codes.size
        self.add_numbers(row, column + SCALES, quantized.scales)
        self.add_numbers(row, column + BIAS, bias)

    def add_numbers(self, row: int, column: int, numbers: Floats) -> None:
        """Scales, biases or a norm's weights."""
        self.places[row, column] = self._n_numbers
        self.numbers.append(numbers.astype(np.float32))
        self._n_numbers += len(numbers)

    def read(self, module: str) -> tuple[Floats, Floats]:
        """A module's weights and its bias, zeros where it has none."""
        weights = self.need(f"{module}.weight")
        bias = self._tensors(f"{module}.bias")
        return weights, np.zeros(len(weights), np.float32) if bias is None else bias


def write_decoder_weights(folder: Path, shape: DecoderShape, tensors: Tensors) -> None:
    """Write `PACKED` into `folder`. Raises `ModelError` where a tensor is missing."""
    from safetensors.numpy import save_file

    packer = _Packer(tensors, shape.n_layers)
    for layer in range(shape.n_layers):
        base = f"model.layers.{layer}"
        for column, modules in _MODULES:
            parts = [packer.read(f"{base}.{module}") for module in modules]
            packer.add_linear(layer, column, *_side_by_side(column, parts))
        norms = ("input_layernorm", "post_attention_layernorm")
        for column, norm in zip((ATTENTION_NORM, FEED_FORWARD_NORM), norms, strict=True):
            packer.add_numbers(layer, column, packer.need(f"{base}.{norm}.weight"))
    embedding = packer.need(EMBEDDING)
    head = tensors(HEAD) if not shape.tied else None
    head = embedding if head is None else head
    empty = np.zeros(len(head), np.float32)
    packer.add_linear(shape.n_layers, 0, *_side_by_side(0, [(head, empty)]))
    packer.add_numbers(shape.n_layers, LAST_NORM, packer.need("model.norm.weight"))
    symmetric = quantize_symmetric(embedding)
    inner = len(packer.need("model.layers.0.mlp.gate_proj.weight"))
    save_file(
        {
            "codes": np.concatenate(packer.codes),
            "numbers": np.concatenate(packer.numbers),
            "places": packer.places,
            "embedding_codes": symmetric.codes,
            "embedding_scales": symmetric.scales,
            "inner": np.array([-(-inner // LANES) * LANES], np.int64),
        },
        folder / PACKED,
    )


def _side_by_side(column: int, parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """One layer's weights and biases, padded; the gate's and the upper one's tiles take turns."""
    if column == GATE_UP:
        parts = [(_fill(weights, LANES), _fill(bias, LANES)) for weights, bias in parts]
        width = parts[0][0].shape[1]
        weights = np.stack([one.reshape(-1, LANES, width) for one, _ in parts], axis=1)
        biases = np.stack([bias.reshape(-1, LANES) for _, bias in parts], axis=1)
        return weights.reshape(-1, width), biases.ravel()
    weights = np.concatenate([one for one, _ in parts])
    if column == DOWN:
        weights = np.ascontiguousarray(_fill(weights.T, LANES).T)
    bias = np.concatenate([bias for _, bias in parts])
    return _fill(weights, UNIT * LANES), _fill(bias, UNIT * LANES)


def _fill(array: Floats, multiple: int) -> Floats:
    """Rows of zeros up to a multiple."""
    missing = -len(array) % multiple
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array


def load_decoder_weights(path: Path, shape: DecoderShape) -> tuple[Sizes, Weights]:
    """What `write_decoder_weights` wrote. Raises `ModelError` for a file that is not such."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as opened:
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot load the weights in {path.parent}: {error}") from error
    cosines, sines = _rotations(shape)
    sizes = Sizes(
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        n_kv_heads=shape.n_kv_heads,
        head_size=shape.head_size,
        hidden=shape.hidden_size,
        inner=int(found["inner"][0]),
        vocabulary=padded(shape.vocabulary_size),
        norm_epsilon=shape.norm_epsilon,
    )
    weights = Weights(
        codes=_in_large_pages(found.pop("codes")),
        numbers=found["numbers"],
        places=found["places"],
        embedding_codes=found["embedding_codes"],
        embedding_scales=found["embedding_scales"],
        cosines=cosines,
        sines=sines,
        windows=np.array(shape.windows, np.int64),
    )
    return sizes, weights


def _rotations(shape: DecoderShape) -> tuple[Floats, Floats]:
    """Cosines and sines `[positions, head_size / 2]`, in float32 like transformers'."""
    exponents = np.arange(0, shape.head_size, 2, dtype=np.float32) / np.float32(shape.head_size)
    frequencies = np.float32(1) / np.float32(shape.rope_theta) ** exponents
    positions = np.arange(shape.context_length, dtype=np.float32)
    angles = positions[:, None] * frequencies.astype(np.float32)
    return np.cos(angles), np.sin(angles)


def _in_large_pages(codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """A copy that begins with a page and may stand in large ones: each token reads all of it."""
    memory = mmap.mmap(-1, max(codes.nbytes, mmap.PAGESIZE))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    copied = np.frombuffer(memory, np.int8, len(codes))
    copied[:] = codes
    return copied


def room_for(sizes: Sizes, n_rows: int) -> Work:
    """Room for a run over at most `n_rows` tokens."""
    n_qkv = (sizes.n_heads + 2 * sizes.n_kv_heads) * sizes.head_size
    wide = padded(max(2 * sizes.inner, n_qkv, sizes.hidden))
    narrow = max(sizes.inner, sizes.hidden, sizes.n_heads * sizes.head_size)
    return Work(
        residual=np.zeros((n_rows, sizes.hidden), np.float32),
        kept=np.zeros((n_rows, sizes.hidden), np.float32),
        levels=np.zeros((n_rows, narrow), np.int16),
        steps=np.zeros(n_rows, np.float32),
        wide=np.zeros((n_rows, wide), np.float32),
        narrow=np.zeros((n_rows, narrow), np.float32),
    )
