from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.models.channel_quantize import LARGEST_CODE, quantize_channels

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 90), st.integers(0, 2**32 - 1))


@given(SHAPES)
def test_no_weight_moves_by_more_than_half_a_step(shape: tuple[int, int, int]) -> None:
    n_out, n_in, seed = shape
    weights = np.random.default_rng(seed).normal(size=(n_out, n_in)).astype(np.float32)
    found = quantize_channels(weights)
    assert (found.codes.dtype, found.codes.shape) == (np.dtype(np.int8), (n_out, n_in))
    assert np.abs(found.codes.astype(int)).max(axis=1).tolist() == [LARGEST_CODE] * n_out
    values = found.codes * found.scales[:, None]
    assert (np.abs(values - weights) <= 0.501 * found.scales[:, None]).all()


@pytest.mark.parametrize("value", [0.0, -3.5, 1e-30])
def test_constant_channels(value: float) -> None:
    weights = np.full((2, 40), value, np.float32)
    found = quantize_channels(weights)
    np.testing.assert_allclose(found.codes * found.scales[:, None], weights, rtol=1e-6)
