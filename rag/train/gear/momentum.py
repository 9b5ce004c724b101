"""The momentum encoder and its queue of documents (He et al. 2020, MoCo).

Documents encoded in earlier batches are negatives in this one. They were encoded by a slowly moving
copy of the encoder, so that old and new ones can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rag.models.bert_layers import BertLayers


class MomentumQueue:
    """Owns the moving copy of the upper layers and the vectors `[size, d]`, oldest overwritten.

    `origins` int64 `[size, 2]` are each document's set and key, -1 where there is none yet.
    """

    def __init__(self, upper: BertLayers, copied: BertLayers, size: int, momentum: float) -> None:
        self._upper, self.copied = upper, copied.requires_grad_(requires_grad=False)
        self._momentum = momentum
        width = copied.layers[0].query.in_features
        self.vectors = torch.zeros(size, width)
        self.origins = torch.full((size, 2), -1)
        self._next = torch.zeros(1, dtype=torch.long)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that goes on between updates, by name."""
        moving = {f"momentum.{name}": value for name, value in self.copied.published().items()}
        return {
            **moving,
            "queue.vectors": self.vectors,
            "queue.origins": self.origins,
            "queue.next": self._next,
        }

    def held(self) -> torch.Tensor:
        """Places in the queue that hold a document."""
        return (self.origins[:, 0] >= 0).nonzero()[:, 0]

    def push(self, vectors: torch.Tensor, origins: Sequence[tuple[int, int]]) -> None:
        """Put documents in; of more than the queue holds the last ones stay."""
        size = len(self.vectors)
        if not size:
            return
        vectors, origins = vectors[-size:], origins[-size:]
        places = (int(self._next) + torch.arange(len(origins))) % size
        self.vectors[places] = vectors.detach().float().cpu()
        self.origins[places] = torch.tensor(origins)
        self._next.fill_((int(self._next) + len(origins)) % size)

    def follow(self) -> None:
        """Move the copy towards the encoder: m · copy + (1 − m) · encoder."""
        now = self._upper.published()
        with torch.no_grad():
            for name, copy in self.copied.published().items():
                copy.lerp_(now[name], 1 - self._momentum)
