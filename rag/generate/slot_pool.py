"""One cache for the sequences that are decoded together, each in a slot of it."""

from __future__ import annotations

import heapq
import threading
import weakref
from collections import deque
from typing import Any

from rag.generate.onnx_cache import KeyValueCache
from rag.models.decoder_shape import DecoderShape


class SlotPool:
    """Slots for at most `n_slots` sequences; there is memory only while one of them is taken.

    Hold `lock` from `admit` to the end of the run: a growing cache moves. A slot belongs to an
    object and is free again as soon as that is gone.
    """

    def __init__(self, session: Any, shape: DecoderShape, n_slots: int) -> None:
        self.lock = threading.Lock()
        self.n_slots = n_slots
        self._session = session
        self._shape = shape
        self._cache: KeyValueCache | None = None
        self._bindings: dict[tuple[int, int], Any] = {}
        self._free = list(range(n_slots))
        self._given_back: deque[int] = deque()

    @property
    def n_taken(self) -> int:
        """Slots in use."""
        return self.n_slots - len(self._free) - len(self._given_back)

    def admit(self, owner: object, source: KeyValueCache, n_tokens: int) -> int | None:
        """Give `owner` a slot that begins with the `n_tokens` in `source`; None when all are taken.

        The lowest is given, so that those in use lie close together.
        """
        self._sweep()
        if not self._free:
            return None
        slot = heapq.heappop(self._free)
        weakref.finalize(owner, self._give_back, slot).atexit = False
        self.reserve(n_tokens).write(slot, source, 0, n_tokens)
        return slot

    def reserve(self, n_tokens: int) -> KeyValueCache:
        """The cache, with room for `n_tokens` in every slot."""
        if self._cache is None:
            self._cache = KeyValueCache(self._shape, n_tokens, n_rows=self.n_slots)
        elif n_tokens > self._cache.capacity:
            taken = set(range(self.n_slots)).difference(self._free, self._given_back)
            self._cache = self._cache.grown(n_tokens, taken)
            self._bindings.clear()
        return self._cache

    def binding(self, first: int, end: int) -> Any:
        """An IO binding to the slots from `first` up to `end`."""
        if (first, end) not in self._bindings:
            binding = self._session.io_binding()
            self.cache.bind(binding, slice(first, end))
            self._bindings[first, end] = binding
        return self._bindings[first, end]

    @property
    def cache(self) -> KeyValueCache:
        """The cache as it is now; there is one while a slot is taken."""
        if self._cache is None:
            raise LookupError("no slot is taken")
        return self._cache

    def _give_back(self, slot: int) -> None:
        # The garbage collector calls this, perhaps in a thread that holds the lock.
        self._given_back.append(slot)
        if self.lock.acquire(blocking=False):
            try:
                self._sweep()
            finally:
                self.lock.release()

    def _sweep(self) -> None:
        """Take back the slots whose owners are gone, and let go of the memory of an empty pool."""
        while self._given_back:
            heapq.heappush(self._free, self._given_back.popleft())
        if len(self._free) == self.n_slots:
            self._cache = None
            self._bindings.clear()
