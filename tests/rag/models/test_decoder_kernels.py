"""The compiled loops against NumPy: every number of rows, tiles and heads."""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.models.decoder_code import LANES, attention_mixture, attention_scores, integer_product
from rag.models.decoder_rows import exponentiate
from rag.models.decoder_rows import gate as gate_tiles
from rag.models.decoder_weights import tiled

SEEDS = st.integers(0, 2**32 - 1)


@functools.cache
def product_of(n_rows: int, n_tiles: int) -> Any:
    product = integer_product(n_rows, n_tiles)

    @numba.njit
    def call(codes, tiles, scales, steps, bias, out):  # type: ignore[no-untyped-def]
        product(
            codes.ctypes.data,
            2 * codes.shape[1],
            tiles.ctypes.data,
            codes.shape[1] // 2,
            scales.ctypes.data,
            steps.ctypes.data,
            bias.ctypes.data,
            out.ctypes.data,
            4 * out.shape[1],
        )

    return call


@pytest.mark.slow
@pytest.mark.parametrize(("n_rows", "n_tiles"), [(1, 4), (1, 2), (2, 2), (3, 2), (6, 1)])
@given(n_pairs=st.integers(1, 40), seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_products_of_whole_numbers(n_rows: int, n_tiles: int, n_pairs: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    n_in, n_out = 2 * n_pairs, n_tiles * LANES
    most = min(32767, (2**31 - 1) // (127 * n_in))
    codes = draw.integers(-most, most + 1, (n_rows, n_in)).astype(np.int16)
    weights = draw.integers(-127, 128, (n_out, n_in)).astype(np.int8)
    codes[0], weights[0] = most, 127  # the largest sum there can be
    scales, bias = draw.normal(size=(2, n_out)).astype(np.float32)
    steps = draw.random(n_rows).astype(np.float32)
    out = np.full((n_rows, n_out + 3), 7, np.float32)
    product_of(n_rows, n_tiles)(codes, tiled(weights), scales, steps, bias, out)
    sums = codes.astype(np.int64) @ weights.T.astype(np.int64)
    assert np.abs(sums).max() < 2**31
    expected = sums.astype(np.float32) * scales * steps[:, None] + bias
    np.testing.assert_array_equal(out[:, :n_out], expected)
    assert (out[:, n_out:] == 7).all()


@functools.cache
def attention_of(n_heads: int) -> Any:
    scores_of, mixture_of = attention_scores(n_heads), attention_mixture(n_heads)

    @numba.njit
    def call(queries, keys, values, shares, scores, out):  # type: ignore[no-untyped-def]
        width = 4 * scores.shape[1]
        scores_of(
            queries.ctypes.data,
            queries.shape[1],
            keys.ctypes.data,
            len(keys),
            scores.ctypes.data,
            width,
        )
        mixture_of(
            scores.ctypes.data,
            width,
            values.ctypes.data,
            len(values),
            shares.ctypes.data,
            out.ctypes.data,
            4 * out.shape[1],
        )

    return call


@pytest.mark.slow
@pytest.mark.parametrize("n_heads", [1, 2, 3, 4])
@given(n_blocks=st.integers(1, 5), size=st.sampled_from([16, 64]), seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_attention(n_heads: int, n_blocks: int, size: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    n_positions = n_blocks * LANES
    queries = draw.normal(size=(n_heads, size)).astype(np.float32)
    keys = draw.normal(size=(n_positions, size)).astype(np.float16)
    blocks = keys.reshape(n_blocks, LANES, size).transpose(0, 2, 1).copy()
    values = draw.normal(size=(n_positions - 3, LANES)).astype(np.float16)
    shares = draw.random(n_heads).astype(np.float32)
    scores = np.zeros((n_heads, n_positions), np.float32)
    out = np.zeros((n_heads, size), np.float32)
    # Numba knows no arrays of float16: the code only takes their addresses.
    bits = blocks.view(np.int16), values.view(np.int16)
    attention_of(n_heads)(queries, *bits, shares, scores, out)
    np.testing.assert_allclose(scores, queries @ keys.T.astype(np.float32), rtol=1e-4, atol=1e-4)
    expected = scores[:, : len(values)] @ values.astype(np.float32) * shares[:, None]
    np.testing.assert_allclose(out[:, :LANES], expected, rtol=1e-3, atol=1e-3)


@given(n=st.integers(1, 70), seed=SEEDS, scale=st.floats(0.01, 30))
@settings(max_examples=30, deadline=None)
def test_exponentials(n: int, seed: int, scale: float) -> None:
    x = (np.random.default_rng(seed).normal(size=n) * scale).astype(np.float32)
    found = x.copy()
    exponentiate(found)
    inside = np.abs(x) < 86
    np.testing.assert_allclose(found[inside], np.exp(x[inside].astype(np.float64)), rtol=5e-6)
    assert (found[x <= -86] < 1e-36).all()
    assert (found[x >= 86] > 1e36).all()


def test_the_exponential_of_zero_is_one() -> None:
    x = np.array([0, -0.0], np.float32)
    exponentiate(x)
    assert x.tolist() == [1, 1]


def test_gates_by_turns_of_tiles() -> None:
    draw = np.random.default_rng(1)
    gate, up = draw.normal(size=(2, 4 * LANES)).astype(np.float32) * 5
    both = np.stack([gate.reshape(-1, LANES), up.reshape(-1, LANES)], axis=1).ravel()
    out = np.zeros(4 * LANES, np.float32)
    gate_tiles(both, out, LANES, 3 * LANES)
    expected = gate / (1 + np.exp(-gate)) * up
    mine = slice(LANES, 3 * LANES)
    np.testing.assert_allclose(out[mine], expected[mine], rtol=1e-5, atol=1e-6)
    assert not out[:LANES].any()
    assert not out[3 * LANES :].any()
