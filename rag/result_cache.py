"""Search responses kept for the next one who asks the same of the same snapshot."""

from __future__ import annotations

import msgspec

from indexes.bounded_cache import BoundedCache
from rag.search import SearchRequest, SearchResponse

ENTRY_BYTES = 500

OBJECT_FACTOR = 3
"""A response's Python objects take about so many times its JSON."""


class ResultCache:
    """Owns whole responses by what was asked and of which snapshot. Safe for threads.

    A commit makes a new snapshot with a serial of its own, so that nothing of the old is found any
    more; it goes as others come.
    """

    def __init__(self, max_bytes: int) -> None:
        self._off = max_bytes == 0
        self._kept: BoundedCache[tuple[int, bytes], SearchResponse] = BoundedCache(
            max_bytes, _bytes_of
        )
        self.state = self._kept.state
        self.clear = self._kept.clear

    def get(self, serial: int, request: SearchRequest) -> SearchResponse | None:
        """The response to the same request from the snapshot of this serial."""
        return None if self._off else self._kept.get((serial, _asked(request)))

    def put(self, serial: int, request: SearchRequest, response: SearchResponse) -> None:
        """Keep a response."""
        if not self._off:
            self._kept.put((serial, _asked(request)), response)


def _asked(request: SearchRequest) -> bytes:
    """What decides the hits: all but the time that there is."""
    return msgspec.json.encode(msgspec.structs.replace(request, timeout_ms=None))


def _bytes_of(key: tuple[int, bytes], response: SearchResponse) -> int:
    return len(key[1]) + OBJECT_FACTOR * len(msgspec.json.encode(response)) + ENTRY_BYTES
