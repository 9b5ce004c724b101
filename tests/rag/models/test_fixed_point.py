"""Products in 16-bit fixed point against their plain twin in 64-bit numbers, and float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rag.models.fixed_point import FixedWeights, fix_weights, fixed_rows, multiply
from rag.models.vector_code import COLUMNS, multiplies_shorts

pytestmark = pytest.mark.skipif(not multiplies_shorts(), reason="the processor has no AVX2")

ROW_COUNTS = [*range(1, 20), 47, 48, 49]


def twin(rows: np.ndarray, weights: FixedWeights) -> np.ndarray:
    """What `multiply` does, step by step; fails where a 32-bit sum would overflow."""
    n_panels, n_pairs, _, _ = weights.panels.shape
    flat = weights.panels.transpose(0, 2, 1, 3).reshape(n_panels * COLUMNS, 2 * n_pairs)
    numbers, scales = fixed_rows(rows)
    assert not numbers[len(rows) :].any()
    sums = numbers[: len(rows)].astype(np.int64) @ flat.astype(np.int64).T
    assert np.abs(sums).max(initial=0) < 1 << 31
    return sums * scales[: len(rows), None].astype(float) * weights.scales + weights.bias


def product(rows: np.ndarray, weights: FixedWeights) -> np.ndarray:
    numbers, scales = fixed_rows(rows)
    # Beside what is written nothing may change.
    around = np.full((len(rows) + 2, len(weights.bias) + 2), np.float32(7))
    multiply(numbers, scales, len(rows), weights, around, 1, 1)
    edge = around.copy()
    edge[1:-1, 1:-1] = 7
    assert (edge == 7).all()
    return around[1:-1, 1:-1].copy()


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", ROW_COUNTS)
def test_products_are_those_of_the_twin_and_close_to_the_exact(n_rows: int) -> None:
    weight, bias, rows = random(48, 64), random(48, seed=1), random(n_rows, 64, seed=2)
    weights = fix_weights(weight, bias)
    found = product(rows, weights)
    np.testing.assert_allclose(found, twin(rows, weights), rtol=1e-6, atol=1e-5)
    exact = rows.astype(float) @ weight.T.astype(float) + bias
    lengths = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(weight, axis=1)
    assert (np.abs(found - exact) <= 2e-4 * lengths + 1e-6).all()


sizes = st.floats(-1e6, 1e6, width=32)
extremes = st.sampled_from([0.0, 1.0, -1.0, 1e-38, 1e-20, 3e4, -3e4, 1e15])


@settings(max_examples=60, deadline=None)
@given(
    rows=arrays(np.float32, (5, 32), elements=sizes | extremes),
    weight=arrays(np.float32, (16, 32), elements=sizes | extremes),
)
def test_no_sum_overflows_whatever_the_numbers(rows: np.ndarray, weight: np.ndarray) -> None:
    weights = fix_weights(weight, np.zeros(16, np.float32))
    found = product(rows, weights)
    expected = twin(rows, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-25)


def test_rows_that_point_alike_reach_the_bound_without_overflow() -> None:
    for row in (np.ones(1024), np.eye(1, 1024)[0], np.resize([1, -1], 1024)):
        rows = np.tile(row.astype(np.float32), (6, 1))
        found = product(rows, fix_weights(np.tile(rows, (8, 1))[:16], np.zeros(16, np.float32)))
        np.testing.assert_allclose(found, row @ row, rtol=1e-3)


def test_shapes_that_do_not_fill_panels_are_refused() -> None:
    for shape in ((15, 32), (16, 31)):
        with pytest.raises(ValueError, match="do not fill panels"):
            fix_weights(random(*shape), np.zeros(shape[0], np.float32))
