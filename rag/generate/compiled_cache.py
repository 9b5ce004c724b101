"""The key-value cache of one sequence, in the blocks that the compiled attention reads."""

from __future__ import annotations

import numpy as np

from rag.models.decoder_code import LANES
from rag.models.decoder_shape import DecoderShape

FIRST_CAPACITY = 256
"""Tokens there is room for at the start; each time that is too few, twice as many."""


class BlockedCache:
    """All layers' keys and values in one float16 array.

    A layer has keys `[n_kv_heads, capacity / 16, head_size, 16 positions]` and then values
    `[n_kv_heads, head_size / 16, capacity, 16 channels]`. The owner knows how many tokens count;
    forgetting some is nothing but a smaller number.
    """

    def __init__(self, shape: DecoderShape, n_tokens: int = FIRST_CAPACITY) -> None:
        self._shape = shape
        self.capacity = _capacity_for(n_tokens, shape.context_length)
        size = (shape.n_layers, 2, shape.n_kv_heads, self.capacity * shape.head_size)
        # Memory that nobody writes to is not taken either.
        self._halves = np.empty(size, np.float16)

    @property
    def address(self) -> int:
        """Where it begins, as long as this object lives."""
        return self._halves.ctypes.data

    @property
    def n_bytes(self) -> int:
        """Memory that it may take."""
        return self._halves.nbytes

    def with_room(self, n_tokens: int, n_kept: int) -> BlockedCache:
        """The same cache if `n_tokens` fit, else a bigger one that holds the first `n_kept`."""
        return self if n_tokens <= self.capacity else self.copy(n_kept, n_tokens)

    def copy(self, n_kept: int, n_tokens: int = FIRST_CAPACITY) -> BlockedCache:
        """A cache of its own with room for `n_tokens` that holds the first `n_kept` of this one."""
        other = BlockedCache(self._shape, max(n_kept, n_tokens))
        n_blocks = -(-n_kept // LANES)
        for target, source in zip(other._keys(), self._keys(), strict=True):
            target[:, :n_blocks] = source[:, :n_blocks]
        for target, source in zip(other._values(), self._values(), strict=True):
            target[:, :, :n_kept] = source[:, :, :n_kept]
        return other

    def _keys(self) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float16]]]:
        size = (self._shape.n_kv_heads, -1, self._shape.head_size, LANES)
        return [layer[0].reshape(size) for layer in self._halves]

    def _values(self) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float16]]]:
        size = (self._shape.n_kv_heads, self._shape.head_size // LANES, -1, LANES)
        return [layer[1].reshape(size) for layer in self._halves]


def _capacity_for(n_tokens: int, context_length: int) -> int:
    """The smallest of 256, 512, 1024, ... that is enough, or the context's end; whole blocks."""
    doubled = max(FIRST_CAPACITY, 1 << (n_tokens - 1).bit_length())
    return -(-max(n_tokens, min(doubled, context_length)) // LANES) * LANES
