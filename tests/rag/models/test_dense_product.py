"""Dense layers in either rounding against torch's, interpreted as compiled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rag.models.dense_product import layer_of, multiply_rows, project, round_dense, stacked
from rag.models.torch_runtime import Rounding
from rag.models.vector_code import compiled, multiplies_shorts

pytestmark = pytest.mark.skipif(not multiplies_shorts(), reason="the processor has no AVX2")

OFF: list[tuple[Rounding, float]] = [("int16", 2e-3), ("int8", 0.1)]


@pytest.fixture(scope="module")
def layers() -> list[nn.Linear]:
    torch.manual_seed(4)
    return [nn.Linear(64, 32).requires_grad_(requires_grad=False) for _ in range(2)]


@pytest.mark.parametrize(("rounding", "off"), OFF)
@pytest.mark.parametrize("n_rows", [1, 7, 60, 131])
def test_layers_that_read_the_same_are_one(
    layers: list[nn.Linear], rounding: Rounding, off: float, n_rows: int
) -> None:
    rows = torch.randn(n_rows, 64, generator=torch.Generator().manual_seed(5))
    found = project(rows.numpy(), round_dense(layers, rounding))
    expected = torch.cat([layer(rows) for layer in layers], 1)
    np.testing.assert_allclose(found, expected, atol=off)


@compiled
def _by_stacked(rows: np.ndarray, layers: tuple[np.ndarray, ...], found: np.ndarray) -> None:
    multiply_rows(rows, layer_of(layers, 1), found, 0)


@pytest.mark.parametrize("rounding", ["int16", "int8"])
def test_one_of_stacked_layers_is_that_layer(layers: list[nn.Linear], rounding: Rounding) -> None:
    rows = np.random.default_rng(6).standard_normal((9, 64)).astype(np.float32)
    one, other = (round_dense([layer], rounding) for layer in layers)
    both = stacked([one, other])
    compiled_found, found = np.empty((9, 32), np.float32), np.empty((9, 32), np.float32)
    _by_stacked(rows, both, compiled_found)
    multiply_rows(rows, layer_of(both, 1), found, 0)
    np.testing.assert_array_equal(compiled_found, found)
    np.testing.assert_array_equal(found, project(rows, other))
    assert not np.array_equal(found, project(rows, one))
