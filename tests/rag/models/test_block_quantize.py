from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st

from rag.models.block_quantize import (
    BLOCK_SIZE,
    AffineMatrix,
    SymmetricMatrix,
    block_bytes,
    block_indicator,
    n_blocks,
    quantize_affine,
    quantize_symmetric,
)

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 100), st.integers(0, 2**32 - 1))


def affine_values(matrix: AffineMatrix, n_in: int) -> np.ndarray:
    """The twin: one code at a time, as the operator's documentation describes the bytes."""
    n_out = len(matrix.codes)
    values = np.empty((n_out, n_in))
    for row in range(n_out):
        for column in range(n_in):
            block, place = divmod(column, BLOCK_SIZE)
            code = (matrix.codes[row, block, place // 2] >> (4 * (place % 2))) & 15
            values[row, column] = (int(code) - 8) * float(matrix.scales[row, block]) + float(
                matrix.centres[row, block]
            )
    return values


def symmetric_values(matrix: SymmetricMatrix, n_in: int) -> np.ndarray:
    values = (matrix.codes.astype(np.float64) - 128) * matrix.scales[..., None]
    return values.reshape(len(values), -1)[:, :n_in]


@given(SHAPES)
def test_no_weight_moves_by_more_than_half_a_step(shape: tuple[int, int, int]) -> None:
    n_out, n_in, seed = shape
    weights = np.random.default_rng(seed).normal(size=(n_out, n_in)).astype(np.float32)
    of_column = np.arange(n_in) // BLOCK_SIZE
    affine = quantize_affine(weights)
    assert affine.codes.shape == (n_out, n_blocks(n_in), BLOCK_SIZE // 2)
    steps = affine.scales[:, of_column]
    assert (np.abs(affine_values(affine, n_in) - weights) <= 0.5 * steps + 1e-5).all()
    symmetric = quantize_symmetric(weights)
    assert symmetric.codes.shape == (n_out, n_blocks(n_in), BLOCK_SIZE)
    steps = symmetric.scales[:, of_column]
    assert (np.abs(symmetric_values(symmetric, n_in) - weights) <= 0.5 * steps + 1e-5).all()


@pytest.mark.parametrize("seed", range(5))
def test_weights_from_llama_cpp_are_met_exactly(seed: int) -> None:
    """What was rounded to Q4_1 or Q8_0 before is not rounded a second time."""
    weights = np.random.default_rng(seed).normal(size=(8, 96)).astype(np.float32)
    q4_1 = dequantize(quantize(weights, GGMLQuantizationType.Q4_1), GGMLQuantizationType.Q4_1)
    np.testing.assert_allclose(affine_values(quantize_affine(q4_1), 96), q4_1, atol=1e-6)
    assert np.abs(q4_1 - weights).max() > 0.05
    q8_0 = dequantize(quantize(weights, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0)
    np.testing.assert_allclose(symmetric_values(quantize_symmetric(q8_0), 96), q8_0, atol=1e-6)
    assert np.abs(q8_0 - weights).max() > 0.003


@pytest.mark.parametrize("value", [0.0, -3.5, 1e-30])
def test_constant_blocks(value: float) -> None:
    weights = np.full((2, 40), value, np.float32)
    np.testing.assert_allclose(affine_values(quantize_affine(weights), 40), weights)
    np.testing.assert_allclose(
        symmetric_values(quantize_symmetric(weights), 40), weights, rtol=1e-6
    )


@given(st.integers(1, 5), st.integers(1, 100))
def test_bytes_of_a_row(n_out: int, n_in: int) -> None:
    found = quantize_symmetric(np.ones((n_out, n_in), np.float32))
    assert n_out * block_bytes(n_in) == found.codes.nbytes + found.scales.nbytes


@given(st.integers(1, 100))
def test_the_indicator_sums_blocks(n_in: int) -> None:
    x = np.arange(n_in, dtype=np.float32)
    sums = [x[start : start + BLOCK_SIZE].sum() for start in range(0, n_in, BLOCK_SIZE)]
    np.testing.assert_array_equal(x @ block_indicator(n_in), sums)
