"""A BERT token classifier in our own layers, which open in a fraction of transformers' time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from rag.models.bert_layers import BertEncoder, BertShape, copy_tensors
from rag.models.torch_runtime import Precision, computing_in


class BertClassifier:
    """An encoder with a head of some classes. Safe for threads: nothing is changed by it."""

    def __init__(
        self,
        shape: BertShape,
        tensors: Mapping[str, torch.Tensor],
        n_classes: int,
        *,
        name: str,
        device: str,
        precision: Precision,
    ) -> None:
        """`tensors` go by their published names without the prefix of the architecture.

        Fixed point is computed in 16 bits, and where it is not wanted in single precision.
        Raises `ModelError` when one is missing or of another shape.
        """
        encoder, head = BertEncoder(shape), nn.Linear(shape.hidden_size, n_classes)
        own = dict(head.named_parameters(prefix="classifier"))
        copy_tensors(tensors, {**encoder.published(), **own}, name)
        self._encoder = encoder.requires_grad_(requires_grad=False).to(device).eval()
        self._encoder.stack.seal()
        self._head = head.requires_grad_(requires_grad=False).to(device)
        self._device = torch.device(device)
        fixed = precision in ("int16", "int8") and self._device.type == "cpu"
        self._precision: Precision = "int16" if fixed else "float32"

    def __call__(
        self, ids: torch.Tensor, mask: torch.Tensor | None, types: torch.Tensor | None
    ) -> torch.Tensor:
        """Token ids, what is no padding, and segments `[B, L]` → logits `[B, L, classes]`."""
        device = self._device
        read = None if mask is None else mask.to(device)
        segments = None if types is None else types.to(device)
        with computing_in(self._precision, device):
            states = self._encoder.run(self._encoder.embed(ids.to(device), segments), read)
        logits: torch.Tensor = self._head(states)
        return logits
