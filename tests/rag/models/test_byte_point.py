"""Products in bytes against their plain twin in 64-bit numbers, and against float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rag.models.byte_code import GROUP, STEP_BYTES, STEPS
from rag.models.byte_point import ByteWeights, byte_rows, byte_weights, multiply_bytes
from rag.models.vector_code import COLUMNS, multiplies_shorts

pytestmark = pytest.mark.skipif(not multiplies_shorts(), reason="the processor has no AVX2")

ROW_COUNTS = [*range(1, 17), 49, 59, 60, 61]


def plain(weights: ByteWeights) -> tuple[np.ndarray, np.ndarray]:
    """Numbers `[n, d]` int64, and `[3, n]` float64: scales, sums of weights and bias."""
    n_panels = len(weights.panels)
    numbers = weights.panels.transpose(0, 2, 1, 3).reshape(n_panels * COLUMNS, -1)
    by_output = weights.columns.transpose(1, 0, 2).reshape(3, -1)
    return numbers.astype(np.int64), by_output.astype(float)


def twin(rows: np.ndarray, weights: ByteWeights) -> np.ndarray:
    """What `multiply_bytes` does, step by step; fails where a 16-bit sum would overflow."""
    by_output, (scales, sums, bias) = plain(weights)
    numbers, by_row = byte_rows(rows)
    assert not numbers[len(rows) :].any()
    numbers = numbers[: len(rows)].astype(np.int64)
    assert numbers.max(initial=0) <= 127
    total = np.zeros((len(rows), len(by_output)), np.int64)
    for first in range(0, rows.shape[1], GROUP):
        for pair in range(0, STEP_BYTES, 2):
            part = np.zeros_like(total)
            for step in range(first, first + GROUP, STEP_BYTES):
                chosen = slice(step + pair, step + pair + 2)
                part += numbers[:, chosen] @ by_output[:, chosen].T
                assert np.abs(part).max() < 1 << 15
            total += part
    scale, low = by_row[: len(rows)].astype(float).T[:, :, None]
    return total * scale * scales + low * sums + bias


def product(rows: np.ndarray, weights: ByteWeights) -> np.ndarray:
    numbers, by_row = byte_rows(rows)
    # Beside what is written nothing may change.
    around = np.full((len(rows) + 2, COLUMNS * len(weights.panels)), np.float32(7))
    multiply_bytes(numbers, by_row, len(rows), weights, around, 1)
    assert (around[[0, -1]] == 7).all()
    return around[1:-1].copy()


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("n_rows", ROW_COUNTS)
def test_products_are_those_of_the_twin_and_near_the_exact(n_rows: int) -> None:
    width = 7 * GROUP  # more than one part of a panel at a time
    weight, bias, rows = random(48, width), random(48, seed=1), random(n_rows, width, seed=2)
    weights = byte_weights(weight, bias)
    found = product(rows, weights)
    np.testing.assert_allclose(found, twin(rows, weights), rtol=1e-5, atol=1e-4)
    exact = rows.astype(float) @ weight.T.astype(float) + bias
    lengths = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(weight, axis=1)
    assert np.sqrt(np.mean(((found - exact) / lengths) ** 2)) < 3e-3


def test_a_row_gets_the_same_whatever_rows_are_beside_it() -> None:
    weights, rows = byte_weights(random(32, GROUP), random(32, seed=1)), random(61, GROUP, seed=2)
    together = product(rows, weights)
    for place in (0, 4, 30, 60):
        np.testing.assert_array_equal(product(rows[place : place + 1], weights)[0], together[place])


sizes = st.floats(-1e6, 1e6, width=32)
extremes = st.sampled_from([0.0, 1.0, -1.0, 1e-38, 1e-20, 3e4, -3e4, 1e15])


@settings(max_examples=60, deadline=None)
@given(
    rows=arrays(np.float32, (5, GROUP), elements=sizes | extremes),
    weight=arrays(np.float32, (16, GROUP), elements=sizes | extremes),
)
def test_no_sum_overflows_whatever_the_numbers(rows: np.ndarray, weight: np.ndarray) -> None:
    weights = byte_weights(weight, np.zeros(16, np.float32))
    expected = twin(rows, weights)
    spread = np.abs(rows).max() * np.abs(weight).sum(1).max()
    np.testing.assert_allclose(product(rows, weights), expected, rtol=1e-5, atol=1e-6 * spread)


def test_weights_of_one_sign_reach_the_bound_without_overflow() -> None:
    for weight in (np.ones(2 * GROUP), -np.ones(2 * GROUP), np.resize([1, -0.9], 2 * GROUP)):
        weights = byte_weights(np.tile(weight, (16, 1)).astype(np.float32), np.zeros(16))
        numbers, _ = plain(weights)
        shares = np.maximum(numbers, 0).reshape(16, -1, STEPS, 2, 2).sum((2, 4)).max()
        assert shares <= 32_767 // 127
        rows = np.tile(np.where(weight > 0, 1, -1).astype(np.float32), (6, 1))
        np.testing.assert_allclose(product(rows, weights), np.abs(weight).sum(), rtol=0.15)


def test_a_row_without_spread_is_exact() -> None:
    weight = random(16, GROUP)
    found = product(np.full((3, GROUP), 2.5, np.float32), byte_weights(weight, np.zeros(16)))
    np.testing.assert_allclose(found[0], 2.5 * weight.sum(1), atol=0.5)
    nothing = product(np.zeros((3, GROUP), np.float32), byte_weights(weight, np.arange(16.0)))
    np.testing.assert_array_equal(nothing[0], np.arange(16))


def test_shapes_that_do_not_fill_panels_are_refused() -> None:
    for shape in ((15, GROUP), (16, GROUP + 16)):
        with pytest.raises(ValueError, match="do not fill panels"):
            byte_weights(random(*shape), np.zeros(shape[0], np.float32))
