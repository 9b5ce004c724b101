"""Which examples make which batch: a pure function of the seed, so a resumed run needs no memory.

Every set is read as an endless stream: epoch 0 in one order, epoch 1 in another, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Batch(NamedTuple):
    """Examples of one step, all of the set number `source`."""

    source: int
    examples: list[int]


def epoch_order(n_examples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of `range(n_examples)` in an epoch: a pure function of (seed, epoch)."""
    return np.random.default_rng([seed, epoch]).permutation(n_examples)


def stream(n_examples: int, seed: int, first: int, n: int) -> list[int]:
    """Examples at the places `first` to `first + n` of the endless stream."""
    places = range(first, first + n)
    epochs = {place // n_examples for place in places}
    orders = {epoch: epoch_order(n_examples, seed, epoch) for epoch in epochs}
    return [int(orders[place // n_examples][place % n_examples]) for place in places]


class MixedOrder:
    """Batches of several sets, each batch of one set, so that in-batch negatives are alike.

    Sets take turns by weight (smooth weighted round robin: after any number of steps a set's
    share is within one batch of its due), whatever their sizes: small sets begin new epochs.
    """

    def __init__(
        self, sizes: Sequence[int], weights: Sequence[float], batch_size: int, seed: int
    ) -> None:
        self._sizes = list(sizes)
        self._weights = [weight / sum(weights) for weight in weights]
        self._batch_size = batch_size
        self._seed = seed
        self._turns: list[tuple[int, int]] = []
        self._credit = [0.0] * len(sizes)
        self._taken = [0] * len(sizes)

    def batch(self, step: int) -> Batch:
        """The examples of a step."""
        while len(self._turns) <= step:
            self._take_turn()
        source, number = self._turns[step]
        # Sets of equal size must not be read in the same order.
        seed = self._seed * 1_000 + source
        first = number * self._batch_size
        return Batch(source, stream(self._sizes[source], seed, first, self._batch_size))

    def _take_turn(self) -> None:
        self._credit = [c + w for c, w in zip(self._credit, self._weights, strict=True)]
        source = max(range(len(self._credit)), key=lambda place: (self._credit[place], -place))
        self._credit[source] -= 1
        self._turns.append((source, self._taken[source]))
        self._taken[source] += 1
