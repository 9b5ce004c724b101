"""Drawing a sample that the same seed draws again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from indexes.errors import UsageError

Item = TypeVar("Item")


def sample(items: Sequence[Item], n: int | None, seed: int) -> list[Item]:
    """`n` of the items drawn by `seed`, in their old order; all of them with None or a large `n`.

    Raises `UsageError` for an `n` below 1.
    """
    if n is None or n >= len(items):
        return list(items)
    if n < 1:
        raise UsageError("a sample has at least one item")
    chosen = np.random.default_rng(seed).choice(len(items), size=n, replace=False)
    return [items[number] for number in np.sort(chosen)]
