"""Queries → vectors for a service: known ones from memory, concurrent ones in one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from indexes.bounded_cache import BoundedCache
from indexes.gather import Gather
from indexes.representation import PassageVectors
from rag.retrievers.retriever import EncodedQuery, Retriever
from rag.retrievers.worker_threads import WorkerThreads, crowded

Encodings = BoundedCache[tuple[bytes, str], EncodedQuery]
"""(retriever's key, query) → what the retriever made of it."""

TERM_BYTES = 120
"""About what a term and its weight take as Python objects."""


class QueryEncoder:
    """A retriever whose single queries are gathered and remembered; otherwise it is that one.

    A query gets the same vector as alone: to the bit in fixed point, but for the rounding of
    float32 where a batch is padded.
    Fewer than `n_threads` batches are encoded at a time, or one.
    """

    def __init__(
        self,
        retriever: Retriever,
        key: bytes,
        encodings: Encodings,
        sizes: Callable[[int], None],
        n_threads: int = 1,
    ) -> None:
        self.entry = retriever.entry
        self._retriever = retriever
        self._key = key
        self._encodings = encodings
        self._workers = WorkerThreads(n_threads)
        self._lock = threading.Lock()
        self._n_running = 0
        # One core is left to what Python does for the same requests.
        seats = max(1, n_threads - 1)
        self._gather = Gather[str, EncodedQuery](self._compute, n_seats=seats, sizes=sizes)

    def encode_passages(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> PassageVectors:
        """As the retriever does."""
        return self._retriever.encode_passages(texts, on_done)

    def encode_queries(self, queries: Sequence[str]) -> list[EncodedQuery]:
        """As the retriever does; one query alone waits for a batch where there is a queue."""
        if len(queries) != 1:
            return self._retriever.encode_queries(queries)
        key = (self._key, queries[0])
        found = self._encodings.get(key)
        if found is None:
            found = self._gather.compute(queries[0])
            self._encodings.put(key, found)
        return [found]

    def _compute(self, queries: Sequence[str]) -> list[EncodedQuery]:
        """A query alone by all of the model's threads; in a crowd each batch by one of them.

        Threads that compute together wait for each other at every operation. That pays while the
        others would idle, and costs dearly where they have work of their own. A retriever that
        `computes_alone` needs no more than the thread that calls it.
        """
        if getattr(self._retriever, "computes_alone", False):
            return self._retriever.encode_queries(queries)
        with self._lock:
            self._n_running += 1
            alone = self._n_running == 1 and len(queries) == 1
        try:
            if alone and not crowded(self._workers.n_threads):
                return self._retriever.encode_queries(queries)
            return self._workers.beside(self._retriever.encode_queries, queries)
        finally:
            with self._lock:
                self._n_running -= 1


def encoding_bytes(key: tuple[bytes, str], encoded: EncodedQuery) -> int:
    """About what an entry takes."""
    vector = encoded.vector
    dense = 0 if vector.dense is None else vector.dense.nbytes
    sparse = 0 if vector.sparse is None else TERM_BYTES * len(vector.sparse.terms)
    return 4 * len(key[1]) + dense + sparse + 500
