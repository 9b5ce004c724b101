"""GeAR as a retriever: its bi-encoder alone, cosine similarity. Nothing of fusion is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from indexes.manifest import RetrieverEntry
from indexes.representation import Floats, PassageVectors, QueryVector
from rag.gear.network import open_bi_encoder, pooled
from rag.gear.reading import GearTokens
from rag.gear.shape import read_shape
from rag.models.bert_layers import padded
from rag.models.resolver import ResolvedModel, resolve
from rag.retrievers.batching import token_batches
from rag.retrievers.dense import DenseParams
from rag.retrievers.retriever import EncodedQuery


class GearRetriever:
    """Owns a loaded bi-encoder. Encoding is safe for threads: nothing is changed by it."""

    def __init__(
        self,
        entry: RetrieverEntry,
        model: ResolvedModel,
        *,
        cache: Path,
        device: str,
        batch_tokens: int,
    ) -> None:
        self.entry = entry
        shape = read_shape(model.folder)
        self._encoder = open_bi_encoder(model, cache, device)
        self._tokens = GearTokens(resolve(shape.base, cache).folder)
        params = msgspec.convert(entry.params, DenseParams)
        self.max_tokens = min(shape.max_tokens, params.max_tokens or shape.max_tokens)
        self._device, self._batch_tokens = device, batch_tokens
        self._width = self._encoder.base.shape.hidden_size

    def encode_passages(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> PassageVectors:
        """Unit vectors float32 `[n, d]`."""
        vectors, _ = self._encode(texts, on_done)
        return PassageVectors(dense=vectors)

    def encode_queries(self, queries: Sequence[str]) -> list[EncodedQuery]:
        """Unit vectors, and whether a query was longer than the model reads."""
        vectors, truncated = self._encode(queries, lambda _: None)
        return [
            EncodedQuery(QueryVector(dense=vector), cut)
            for vector, cut in zip(vectors, truncated, strict=True)
        ]

    def _encode(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> tuple[Floats, list[bool]]:
        read = [self._tokens.question(text, self.max_tokens) for text in texts]
        vectors = np.zeros((len(texts), self._width), dtype=np.float32)
        with torch.inference_mode():
            for batch in token_batches([len(one.ids) for one in read], self._batch_tokens):
                rows = [read[place].ids for place in batch]
                ids, mask = padded(rows, self._tokens.pad, self._device)
                found = pooled(self._encoder.states(ids, mask), mask)
                vectors[batch] = found.cpu().numpy()
                on_done(len(batch))
        return vectors, [one.truncated for one in read]
