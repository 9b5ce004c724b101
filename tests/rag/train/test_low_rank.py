"""Low-rank adapters against the product that they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from indexes.errors import Unsupported
from rag.train.low_rank import LowRankAdapters
from rag.train.splade_recipe import LowRankConfig

CONFIG = LowRankConfig(rank=2, alpha=6.0, dropout=0.0)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3, bias=False))


def test_it_begins_as_the_model_it_was():
    plain, inputs = model(), torch.randn(7, 5)
    expected = plain(inputs)
    LowRankAdapters(plain, CONFIG)
    torch.testing.assert_close(plain(inputs), expected, rtol=0, atol=0)


def test_the_correction_is_its_product_merged_or_not():
    adapted, inputs = model(), torch.randn(7, 5)
    layer = adapted[0]
    adapters = LowRankAdapters(adapted, CONFIG)
    parameters = adapters.parameters()
    assert set(parameters) == {"0.down", "0.up", "2.down", "2.up"}
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.normal_()
        weight = layer.weight + 6.0 / 2 * parameters["0.up"] @ parameters["0.down"]
    torch.testing.assert_close(adapted[0](inputs), nn.functional.linear(inputs, weight, layer.bias))
    expected = adapted(inputs)
    with adapters.merged():
        assert [name for name, _ in adapted.named_parameters()] == [
            name for name, _ in model().named_parameters()
        ]
        torch.testing.assert_close(adapted(inputs), expected)
    assert adapters.parameters()["0.up"] is parameters["0.up"]
    torch.testing.assert_close(adapted(inputs), expected, rtol=0, atol=0)


def test_a_model_without_linear_layers_is_an_error():
    with pytest.raises(Unsupported):
        LowRankAdapters(nn.Sequential(nn.ReLU()), CONFIG)
