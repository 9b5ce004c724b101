"""Results kept for the next one who asks, within a bound of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import msgspec

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class CacheState(msgspec.Struct, frozen=True):
    """How a cache has served since it was made, and what it holds now."""

    hits: int = 0
    misses: int = 0
    n_entries: int = 0
    n_bytes: int = 0


class BoundedCache(Generic[Key, Value]):
    """Owns at most `max_bytes` of values; those used last stay longest. Safe for threads.

    `bytes_of` weighs a value once, when it is put. One that is heavier than an eighth of the
    bound is not kept, so that a few giants cannot drive out all others. 0 bytes keep nothing.
    """

    def __init__(self, max_bytes: int, bytes_of: Callable[[Key, Value], int]) -> None:
        self._max_bytes = max_bytes
        self._bytes_of = bytes_of
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._n_bytes = self._hits = self._misses = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """What was put under the key, None when it is not here (any more)."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self._misses += 1
                return None
            self._hits += 1
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Key, value: Value) -> None:
        """Keep a value; the longest unused ones go where there is no room."""
        weight = self._bytes_of(key, value)
        if weight > self._max_bytes // 8:
            return
        with self._lock:
            self._drop(key)
            self._kept[key] = (value, weight)
            self._n_bytes += weight
            while self._n_bytes > self._max_bytes:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forget everything but the counts."""
        with self._lock:
            self._kept.clear()
            self._n_bytes = 0

    def state(self) -> CacheState:
        """Counts and sizes now."""
        with self._lock:
            return CacheState(self._hits, self._misses, len(self._kept), self._n_bytes)

    def _drop(self, key: Key) -> None:
        _, weight = self._kept.pop(key, (None, 0))
        self._n_bytes -= weight
