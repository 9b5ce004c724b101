"""Attention in bytes against float64's, and its parts against the products' own rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import njit

from rag.models.byte_attention import (
    attend_bytes,
    byte_keys,
    byte_values,
    no_keys,
    no_values,
)
from rag.models.byte_code import GROUP, STEP_BYTES, STEPS
from rag.models.byte_point import ByteWeights, byte_row
from rag.models.group_code import bounds_of_group, round_group, sizes_of_group
from rag.models.row_code import byte_softmax
from rag.models.vector_code import COLUMNS, address, multiplies_shorts

pytestmark = pytest.mark.skipif(not multiplies_shorts(), reason="the processor has no AVX2")

SIZES = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-38, 3e4, 1e15])


def exact(read: np.ndarray, n_heads: int) -> np.ndarray:
    """The twin: every head's softmax and mixture in float64."""
    size = read.shape[1] // 3 // n_heads
    parts = np.split(read.astype(float), 3, axis=1)
    found = []
    for head in range(n_heads):
        query, key, value = (part[:, head * size : (head + 1) * size] for part in parts)
        scores = query @ key.T / np.sqrt(size)
        powers = np.exp(scores - scores.max(1, keepdims=True))
        found.append(powers / powers.sum(1, keepdims=True) @ value)
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 16, 17, 19, 20, 21, 31, 32, 33, 64, 100, 257])
@pytest.mark.parametrize("size", [32, 64])
def test_attention_is_near_the_exact(length: int, size: int) -> None:
    read = np.random.default_rng(length).standard_normal((length, 6 * size)).astype(np.float32)
    # Beside what is written nothing may change.
    around = np.full((length + 2, 2 * size), np.float32(7))
    attend_bytes(read, 2, around[1:-1])
    assert (around[[0, -1]] == 7).all()
    off = around[1:-1] - exact(read, 2)
    assert np.abs(off).max() < 0.06
    assert np.sqrt(np.mean(off**2)) < 0.012


def test_a_text_that_says_one_thing_is_read_as_it_is() -> None:
    """Weights add up to 1 whatever their rounding: equal values come out as they went in."""
    rng = np.random.default_rng(1)
    read = rng.standard_normal((90, 96)).astype(np.float32)
    read[:, 64:] = rng.standard_normal(32)
    mixed = np.empty((90, 32), np.float32)
    attend_bytes(read, 1, mixed)
    np.testing.assert_allclose(mixed, read[:, 64:], atol=1e-5)


def one_sign(weights: ByteWeights) -> int:
    """The most that weights of one sign in one 16-bit sum add up to."""
    numbers = weights.panels.transpose(0, 2, 1, 3).reshape(-1, weights.panels.shape[1] * STEP_BYTES)
    pairs = numbers.astype(int).reshape(len(numbers), -1, STEPS, 2, 2)
    return int(max(np.maximum(sign * pairs, 0).sum((2, 4)).max() for sign in (1, -1)))


def plain(weights: ByteWeights) -> tuple[np.ndarray, np.ndarray]:
    """Numbers `[n, d]`, and `[3, n]`: scales, sums of weights and bias."""
    numbers = weights.panels.transpose(0, 2, 1, 3).reshape(len(weights.panels) * COLUMNS, -1)
    return numbers.astype(float), weights.columns.transpose(1, 0, 2).reshape(3, -1)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 40), st.just(GROUP)), elements=SIZES))
def test_keys_and_values_stand_for_what_they_were_and_never_overflow(read: np.ndarray) -> None:
    n_rows = len(read)
    keys, values = no_keys(n_rows, GROUP), no_values(n_rows, GROUP)
    byte_keys(read, 0, GROUP, keys)
    byte_values(read, 0, GROUP, values)
    for weights, wanted in ((keys, read), (values, read.T)):
        assert one_sign(weights) <= 32_767 // 127
        numbers, (scales, sums, bias) = plain(weights)
        n_outputs, n_inputs = wanted.shape
        assert not numbers[n_outputs:].any()
        assert not numbers[:, n_inputs:].any()
        if weights is keys:
            assert not bias.any()
        else:
            wanted = wanted - bias[:, None]
            assert (np.abs(bias - read.mean(0)) <= 1e-5 * np.abs(read).max()).all()
        allowed = 0.51 * scales[:n_outputs, None] + 1e-6 * np.abs(wanted) + 1e-30
        off = np.abs(numbers[:n_outputs, :n_inputs] * scales[:n_outputs, None] - wanted)
        assert (off <= allowed).all()
        if weights is keys:
            np.testing.assert_allclose(sums, numbers.sum(1) * scales, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("scores", [[0.0], [3.0, 3.0], [0, -1, -2.5], [500, 0, 499, -4000]])
def test_softmax_is_the_exact_one(scores: list[float]) -> None:
    rows = np.full((3, len(scores) + 2), np.float32(9))
    rows[1, :-2] = scores
    numbers = np.full((3, len(scores) + 2), 9, np.uint8)
    scale = byte_softmax(rows, 1, len(scores), numbers)
    powers = np.exp2(np.array(scores) - max(scores))
    np.testing.assert_allclose(numbers[1, :-2] * scale, powers / powers.sum(), atol=4e-3)
    np.testing.assert_allclose(rows[1, :-2], powers, rtol=1e-5, atol=1e-30)
    assert (numbers[[0, 2]] == 9).all()
    assert (numbers[1, -2:] == 9).all()


@njit
def measured(row: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    return bounds_of_group(address(row)), sizes_of_group(address(row))


@njit
def rounded(row: np.ndarray, low: float, inverse: float, out: np.ndarray) -> float:
    return round_group(address(row), np.float32(low), np.float32(inverse), address(out))


@settings(deadline=None)
@given(arrays(np.float32, GROUP, elements=st.floats(-1e6, 1e6, width=32)))
def test_a_group_is_measured_and_rounded_as_number_by_number(row: np.ndarray) -> None:
    (low, high), (largest, most) = measured(row)
    assert (low, high, largest) == (row.min(), row.max(), np.abs(row).max())
    halves = row.astype(float).reshape(STEPS, 2, 2)
    sums = [np.maximum(sign * halves, 0).sum((0, 2)).max() for sign in (1, -1)]
    assert most / 2 == pytest.approx(max(sums), rel=1e-4, abs=1e-3 * largest)
    numbers, scale_and_low = np.empty(GROUP, np.uint8), np.empty(2, np.float32)
    byte_row(row, numbers, scale_and_low)
    out = np.full(GROUP + 2, 9, np.uint8)
    total = rounded(row, scale_and_low[1], np.float32(1) / scale_and_low[0], out[1:])
    np.testing.assert_array_equal(out[1:-1], numbers)
    assert (out[0], out[-1]) == (9, 9)
    assert total == numbers.sum()
