"""One question and several documents through torch's layers: a batch, padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from rag.gear.fusion import Fusion, Memory
from rag.gear.reader import Reading
from rag.gear.reading import NOBODY, ReadDocument
from rag.models.bert_layers import padded

if TYPE_CHECKING:
    from rag.gear.network import GearNetwork


class PaddedPass:
    """A network's computing where torch does it, on whatever device. Safe for threads."""

    def __init__(self, network: GearNetwork, pad: int) -> None:
        self._network, self._pad = network, pad

    def states(self, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Token ids of texts → their token states `[l, d]`."""
        ids, mask = padded(rows, self._pad, self._network.device)
        states, _ = self._network.memory(self._network.encoder.shared(ids, mask), mask)
        return [one[: len(row)] for one, row in zip(states, rows, strict=True)]

    def fuse(self, question: Sequence[int], documents: Sequence[torch.Tensor]) -> Fusion:
        """A question's token ids and each of several documents' states `[l, d]`."""
        return self._network.fuse(self._repeated(question, documents), None, _memory(documents))

    def scores(self, question: Sequence[int], documents: Sequence[ReadDocument]) -> torch.Tensor:
        """The reader's `[B, S]`, -inf where a document has no such sentence, or that no token."""
        states = [one.states for one in documents]
        fused = self.fuse(question, states)
        own = torch.ones(fused.states.shape[:2], device=fused.states.device)
        every = torch.ones_like(own)
        own[:, [0, -1]] = 0
        words = self._network.base.words
        ids, _ = padded([one.ids for one in documents], self._pad, self._network.device)
        read = Reading(
            fused.attention,
            own,
            every,
            fused.states,
            words(self._repeated(question, documents)),
            _memory(states).states,
            words(ids),
            padded_owners(documents).to(own.device),
        )
        found: torch.Tensor = self._network.reader(
            read, max(len(one.sentences) for one in documents)
        )
        return found

    def _repeated(self, question: Sequence[int], documents: Sequence[object]) -> torch.Tensor:
        ids = torch.tensor([question], device=self._network.device)
        return ids.expand(len(documents), -1)


def padded_owners(documents: Sequence[ReadDocument]) -> torch.Tensor:
    """Each token's sentence, int64 `[B, N]`; padding is nobody's."""
    longest = max(len(one.owners) for one in documents)
    owners = torch.full((len(documents), longest), NOBODY)
    for row, one in enumerate(documents):
        owners[row, : len(one.owners)] = torch.tensor(one.owners)
    return owners


def _memory(documents: Sequence[torch.Tensor]) -> Memory:
    """The documents' states, padded."""
    lengths = [len(states) for states in documents]
    first = documents[0]
    states = first.new_zeros(len(documents), max(lengths), first.shape[1])
    mask = torch.zeros(states.shape[:2], dtype=torch.bool, device=states.device)
    for row, one in enumerate(documents):
        states[row, : lengths[row]] = one
        mask[row, : lengths[row]] = True
    return Memory(states, None if min(lengths) == max(lengths) else mask)
