"""Low-rank adapters (LoRA, Hu et al. 2021): W x + (α / r) B A x, with W left as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from indexes.errors import Unsupported
from rag.train.splade_recipe import LowRankConfig


class LowRankLinear(nn.Module):  # type: ignore[misc]
    """A frozen linear layer `[out, in]` and its trained correction of rank r."""

    def __init__(self, base: nn.Linear, config: LowRankConfig) -> None:
        super().__init__()
        self.base = base
        self.scale = config.alpha / config.rank
        self.dropout = config.dropout
        self.down = nn.Parameter(base.weight.new_empty(config.rank, base.in_features))
        # B begins at 0, so the model begins as what it was; A as torch begins a linear layer.
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, config.rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """W x + (α / r) B A dropout(x)."""
        thinned = functional.dropout(inputs, self.dropout, self.training)
        correction = functional.linear(functional.linear(thinned, self.down), self.up)
        found: torch.Tensor = self.base(inputs) + self.scale * correction
        return found

    def merged(self) -> nn.Linear:
        """One plain layer that computes the same, without dropout."""
        layer = nn.Linear(
            self.base.in_features, self.base.out_features, bias=self.base.bias is not None
        )
        with torch.no_grad():
            layer.weight = nn.Parameter(self.base.weight + self.scale * self.up @ self.down)
            if self.base.bias is not None:
                layer.bias = nn.Parameter(self.base.bias.clone())
        return layer


class LowRankAdapters:
    """Puts an adapter on every linear layer of a model; raises `Unsupported` if there is none."""

    def __init__(self, model: nn.Module, config: LowRankConfig) -> None:
        self._model = model
        linear = [name for name, part in model.named_modules() if type(part) is nn.Linear]
        if not linear:
            raise Unsupported("low_rank: the model has no linear layers")
        self._adapters = {name: LowRankLinear(model.get_submodule(name), config) for name in linear}
        for name, adapter in self._adapters.items():
            model.set_submodule(name, adapter)

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """A and B of every adapter, by name."""
        return {
            f"{name}.{part}": getattr(adapter, part)
            for name, adapter in self._adapters.items()
            for part in ("down", "up")
        }

    @contextmanager
    def merged(self) -> Iterator[None]:
        """While entered the model is made of plain layers that compute the same."""
        try:
            for name, adapter in self._adapters.items():
                self._model.set_submodule(name, adapter.merged())
            yield
        finally:
            for name, adapter in self._adapters.items():
                self._model.set_submodule(name, adapter)
