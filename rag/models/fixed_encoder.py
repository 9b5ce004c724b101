"""Token ids → states or unit vectors, nearly all of it in one call of compiled code.

A server's threads take turns at Python's lock, and one that comes back from each small operation
waits for its turn each time. Here there is one long turn without the lock for a whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rag.models.fixed_layers import FixedStack, run_layers
from rag.models.fixed_point import Floats

if TYPE_CHECKING:
    from rag.models.bert_layers import BertEncoder


class FixedEncoder:
    """An encoder as it was when this was made; its embeddings are in shared memory."""

    def __init__(self, encoder: BertEncoder, stack: FixedStack) -> None:
        """The encoder's embeddings below a stack of layers."""
        self._stack = stack
        self.words: Floats = encoder.words.weight.detach().numpy()
        first_type = encoder.types.weight[0]
        self._places: Floats = (encoder.positions.weight + first_type).detach().numpy()
        norm = encoder.norm
        self._weight: Floats = norm.weight.detach().numpy()
        self._bias: Floats = norm.bias.detach().numpy()
        self._eps = np.float32(norm.eps)

    def unit_means(self, rows: Sequence[Sequence[int]]) -> Floats:
        """The mean of each text's states, of unit length: float32 `[len(rows), d]`.

        `rows` are token ids, special ones included, none of them empty.
        """
        states, bounds = self._run(rows)
        # The number of tokens cancels out: it is the direction that is wanted.
        sums = np.add.reduceat(states, bounds[:-1], axis=0)
        found: Floats = sums / np.sqrt((sums * sums).sum(1, keepdims=True))
        return found

    def embed(self, rows: Sequence[Sequence[int]]) -> Floats:
        """What the layers begin with, texts end to end: `[sum of lengths, d]`."""
        return self._embedded(rows, bounds_of(rows))

    def states(self, rows: Sequence[Sequence[int]]) -> list[Floats]:
        """The states `[l, d]` of each text; as for `unit_means`."""
        states, bounds = self._run(rows)
        return np.split(states, bounds[1:-1])

    def _run(self, rows: Sequence[Sequence[int]]) -> tuple[Floats, NDArray[np.int64]]:
        """States of all texts end to end, and where each begins and the last one ends."""
        bounds = bounds_of(rows)
        return run_layers(self._embedded(rows, bounds), bounds, *self._stack), bounds

    def _embedded(self, rows: Sequence[Sequence[int]], bounds: NDArray[np.int64]) -> Floats:
        ids = np.fromiter(chain.from_iterable(rows), np.int64, bounds[-1])
        places = np.arange(len(ids)) - np.repeat(bounds[:-1], np.diff(bounds))
        states = self.words[ids]
        states += self._places[places]
        states -= states.mean(1, keepdims=True)
        states /= np.sqrt(np.square(states).mean(1, keepdims=True) + self._eps)
        states *= self._weight
        states += self._bias
        return states


def bounds_of(texts: Sequence[Sized]) -> NDArray[np.int64]:
    """Of texts end to end: where each begins, and where the last one ends."""
    bounds = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=bounds[1:])
    return bounds
