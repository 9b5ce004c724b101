"""A BERT token classifier in our own layers, which compute in 16-bit fixed point; no padding."""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from rag.models.bert_layers import PREFIX, BertEncoder, BertShape, is_plain
from rag.models.torch_runtime import computing_in


class FixedClassifier:
    """The same weights as a transformers module that has been loaded, in shared memory.

    Safe for threads; what the module learns afterwards is not seen.
    """

    def __init__(self, module: Any, shape: BertShape) -> None:
        self._encoder = BertEncoder(shape).requires_grad_(requires_grad=False).eval()
        tensors = module.state_dict()
        for name, parameter in self._encoder.published().items():
            parameter.data = tensors[PREFIX + name].detach()
        self._encoder.stack.seal()
        self._head: Any = module.classifier

    def __call__(
        self, ids: torch.Tensor, mask: torch.Tensor | None, types: torch.Tensor | None
    ) -> torch.Tensor:
        """Token ids, what is no padding, and segments `[B, L]` → logits `[B, L, classes]`."""
        with computing_in("int16", ids.device):
            states = self._encoder.run(self._encoder.embed(ids, types), mask)
        logits: torch.Tensor = self._head(states)
        return logits


def fixed_classifier(module: Any) -> FixedClassifier | None:
    """None where the module is no plain BERT."""
    try:
        shape = msgspec.convert(module.config.to_dict(), BertShape)
    except msgspec.ValidationError:
        return None
    return FixedClassifier(module, shape) if is_plain(shape) else None
