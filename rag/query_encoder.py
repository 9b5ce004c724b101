"""Queries → vectors for a service: known ones from memory, concurrent ones in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from indexes.gather import Gather
from indexes.representation import PassageVectors
from rag.bounded_cache import BoundedCache
from rag.retrievers.retriever import EncodedQuery, Retriever

Encodings = BoundedCache[tuple[bytes, str], EncodedQuery]
"""(retriever's key, query) → what the retriever made of it."""

TERM_BYTES = 120
"""About what a term and its weight take as Python objects."""


class QueryEncoder:
    """A retriever whose single queries are gathered and remembered; otherwise it is that one.

    A query gets the same vector as alone but for the rounding of float32: a batch is padded.
    """

    def __init__(
        self,
        retriever: Retriever,
        key: bytes,
        encodings: Encodings,
        sizes: Callable[[int], None],
    ) -> None:
        self.entry = retriever.entry
        self._retriever = retriever
        self._key = key
        self._encodings = encodings
        self._gather = Gather[str, EncodedQuery](
            # One batch at a time: the model uses all its threads for it, and the next one grows.
            retriever.encode_queries,
            n_seats=1,
            sizes=sizes,
        )

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


def encoding_bytes(key: tuple[bytes, str], encoded: EncodedQuery) -> int:
    """About what an entry takes."""
    vector = encoded.vector
    dense = 0 if vector.dense is None else vector.dense.nbytes
    sparse = 0 if vector.sparse is None else TERM_BYTES * len(vector.sparse.terms)
    return 4 * len(key[1]) + dense + sparse + 500
