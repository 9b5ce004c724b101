"""The retrievers that are loaded: each model once, whatever the number of indexes that use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import msgspec

from indexes.bounded_cache import BoundedCache, CacheState
from indexes.snapshot import Snapshot
from rag.config import Settings
from rag.query_encoder import Encodings, QueryEncoder, encoding_bytes
from rag.retrievers.opening import open_retriever
from rag.retrievers.retriever import Retriever
from rag.retrievers.worker_threads import threads_for


class OpenRetrievers:
    """Owns loaded retrievers and what they made of queries. Safe for threads.

    `batch_sizes`, once set, is told of each batch of queries that was encoded together.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._retrievers: dict[bytes, Retriever] = {}
        self._encoders: dict[bytes, QueryEncoder] = {}
        self._encodings: Encodings = BoundedCache(
            settings.encoding_cache_mb * 1_000_000, encoding_bytes
        )
        self.batch_sizes: Callable[[int], None] = lambda _: None

    def of(self, snapshot: Snapshot, names: Sequence[str]) -> dict[str, Retriever]:
        """The named retrievers of an index, loaded at the first call."""
        found = {}
        for name in names:
            entry = snapshot.retriever(name)
            key = msgspec.json.encode([entry, snapshot.manifest.analyzer_sha256])
            with self._lock:
                if key not in self._retrievers:
                    opened = open_retriever(entry, snapshot.analyzer, self._settings)
                    self._retrievers[key] = opened
                found[name] = self._retrievers[key]
        return found

    def encoders(self, snapshot: Snapshot, names: Sequence[str]) -> dict[str, Retriever]:
        """The same for queries: those with a model gather and remember single queries."""
        found: dict[str, Retriever] = {}
        for name, retriever in self.of(snapshot, names).items():
            if not retriever.entry.model:
                found[name] = retriever
                continue
            key = msgspec.json.encode(retriever.entry)
            with self._lock:
                if key not in self._encoders:
                    self._encoders[key] = QueryEncoder(
                        retriever,
                        key,
                        self._encodings,
                        self._tell,
                        n_threads=threads_for(self._settings.device),
                    )
                found[name] = self._encoders[key]
        return found

    def encodings(self) -> CacheState:
        """How the memory of encoded queries does."""
        return self._encodings.state()

    def close(self) -> None:
        """Let go of the models."""
        with self._lock:
            self._retrievers.clear()
            self._encoders.clear()
        self._encodings.clear()

    def _tell(self, size: int) -> None:
        self.batch_sizes(size)
