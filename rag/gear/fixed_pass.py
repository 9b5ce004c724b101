"""One question and several documents in fixed point: few long calls of compiled code, no padding.

See `rag.models.fixed_encoder` for why few.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from rag.gear.fixed_fusion import FixedFusion
from rag.gear.fixed_reader import FixedReading, importances, read_sentences, reader_weights
from rag.gear.fusion import Fusion
from rag.gear.reading import ReadDocument
from rag.models.fixed_encoder import FixedEncoder, bounds_of
from rag.models.fixed_layers import fix_layers
from rag.models.fixed_point import Floats
from rag.models.torch_runtime import Rounding

if TYPE_CHECKING:
    from rag.gear.network import GearNetwork


class FixedPass:
    """A network as it was when this was made, with what `PaddedPass` does. Safe for threads."""

    def __init__(self, network: GearNetwork, rounding: Rounding) -> None:
        stack = fix_layers(network.encoder.layers(), rounding)
        self._encoder = FixedEncoder(network.base, stack.part(0, network.memory_layer))
        self._fusion = FixedFusion(stack, network.fusion.blocks, rounding)
        self._reader = reader_weights(network.reader)

    def states(self, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Token ids of texts → their token states `[l, d]`."""
        return [torch.from_numpy(states) for states in self._encoder.states(rows)]

    def fuse(self, question: Sequence[int], documents: Sequence[torch.Tensor]) -> Fusion:
        """A question's token ids and each of several documents' states `[l, d]`."""
        rows, bounds = _end_to_end(documents)
        weights = np.eye(len(question), dtype=np.float32)
        fused, looked = self._fusion.fuse(self._encoder.embed([question]), rows, bounds, weights)
        attention = torch.from_numpy(looked.transpose(0, 1, 3, 2, 4))
        return Fusion(torch.from_numpy(fused), list(attention))

    def scores(self, question: Sequence[int], documents: Sequence[ReadDocument]) -> torch.Tensor:
        """The reader's `[B, S]`, -inf where a document has no such sentence, or that no token."""
        asked = self._encoder.words[np.array(question)]
        weights = importances(self._reader, asked)
        rows, bounds = _end_to_end([one.states for one in documents])
        fused, looked = self._fusion.fuse(
            self._encoder.embed([question]), rows, bounds, weights[:1]
        )
        read = FixedReading(
            looked[:, :, 0],
            fused,
            asked,
            weights[1:],
            bounds,
            rows,
            _flat(one.ids for one in documents),
            self._encoder.words,
            _flat(one.owners for one in documents),
        )
        n_sentences = max(len(one.sentences) for one in documents)
        return torch.from_numpy(read_sentences(read, self._reader, n_sentences))


def _end_to_end(documents: Sequence[torch.Tensor]) -> tuple[Floats, NDArray[np.int64]]:
    """Documents' states one after the other, where each one begins, and where the last one ends."""
    return np.concatenate([one.numpy() for one in documents]), bounds_of(documents)


def _flat(rows: Iterable[list[int]]) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(rows), np.int64)
