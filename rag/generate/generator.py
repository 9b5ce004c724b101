"""A loaded language model with what its requests taught it."""

from __future__ import annotations

import threading

from rag.generate.drafting import DraftMemory
from rag.generate.goodput import Goodput
from rag.generate.language_model import LanguageModel
from rag.generate.prefix_cache import PrefixCache


class Generator:
    """Owns a model, its measured times, its kept prefixes, and one memory for each index.

    Shared between threads.
    """

    def __init__(self, model: LanguageModel, prefix_cache_bytes: int) -> None:
        self.model = model
        self._goodput = Goodput()
        self._prefixes = PrefixCache(model, prefix_cache_bytes)
        self._memories: dict[str, DraftMemory] = {}
        self._lock = threading.Lock()

    def memory(self, index: str) -> DraftMemory:
        """What the answers from an index taught the drafters; never mixed with another index's."""
        with self._lock:
            if index not in self._memories:
                self._memories[index] = self.fresh_memory()
            return self._memories[index]

    def fresh_memory(self) -> DraftMemory:
        """A memory that no other request shares, but for measured times and kept prefixes."""
        return DraftMemory(self._goodput, self._prefixes)
