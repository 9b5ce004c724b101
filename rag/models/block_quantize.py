"""Blockwise quantised weights in the layout of onnxruntime's `MatMulNBits`.

Codes are those of llama.cpp's Q4_1 and Q8_0 (ggml-quants.c, `quantize_row_q4_1_ref` and
`quantize_row_q8_0_ref`), with float32 scales: weights that came out of such a file are met exactly,
others are rounded to the nearest of 16 or 255 evenly spaced values of their block.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

BLOCK_SIZE = 32
"""Weights that share a scale, along the input dimension."""

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class AffineMatrix(msgspec.Struct, frozen=True):
    """4 bits: `weights[o, i] = (code - 8) * scales[o, b] + centres[o, b]`, where b holds i.

    `codes` is `[n_out, n_blocks, 16]` with two codes a byte, the earlier one in the lower half;
    `scales` and `centres` are `[n_out, n_blocks]`.
    """

    codes: Bytes
    scales: Floats
    centres: Floats


class SymmetricMatrix(msgspec.Struct, frozen=True):
    """8 bits: `weights[o, i] = (code - 128) * scales[o, b]`, where b is the block of i.

    `codes` is `[n_out, n_blocks, 32]`, `scales` `[n_out, n_blocks]`.
    """

    codes: Bytes
    scales: Floats


def quantize_affine(weights: Floats) -> AffineMatrix:
    """4-bit codes between each block's smallest and largest weight; `weights` is `[n_out, n_in]`.

    `n_in` may end inside a block: the codes beyond it mean nothing.
    """
    blocks = _blocks(weights)
    low, high = blocks.min(axis=2), blocks.max(axis=2)
    scales = (high - low) / np.float32(15)
    steps = np.where(scales > 0, scales, np.float32(1))
    codes = np.rint((blocks - low[..., None]) / steps[..., None]).astype(np.uint8)
    packed = codes[..., ::2] | codes[..., 1::2] << 4
    return AffineMatrix(packed, scales, low + np.float32(8) * scales)


def quantize_symmetric(weights: Floats) -> SymmetricMatrix:
    """8-bit codes up to each block's largest magnitude; `weights` is `[n_out, n_in]`."""
    blocks = _blocks(weights)
    scales = np.abs(blocks).max(axis=2) / np.float32(127)
    steps = np.where(scales > 0, scales, np.float32(1))
    codes = np.rint(blocks / steps[..., None]) + np.float32(128)
    return SymmetricMatrix(codes.astype(np.uint8), scales)


def block_indicator(n_in: int) -> Floats:
    """`[n_in, n_blocks]`: what a row of inputs is multiplied by to get the sum of each block."""
    indicator = np.zeros((n_in, n_blocks(n_in)), np.float32)
    indicator[np.arange(n_in), np.arange(n_in) // BLOCK_SIZE] = 1
    return indicator


def n_blocks(n_in: int) -> int:
    """Blocks that cover `n_in` weights."""
    return -(-n_in // BLOCK_SIZE)


def block_bytes(n_in: int) -> int:
    """Bytes that a row of `n_in` weights takes as a `SymmetricMatrix`: codes and scales."""
    return n_blocks(n_in) * (BLOCK_SIZE + 4)


def _blocks(weights: Floats) -> Floats:
    """`[n_out, n_blocks, 32]`; a last block cut short repeats its last weight."""
    n_out, n_in = weights.shape
    missing = n_blocks(n_in) * BLOCK_SIZE - n_in
    padded = np.pad(weights, ((0, 0), (0, missing)), mode="edge") if missing else weights
    return padded.reshape(n_out, -1, BLOCK_SIZE)
