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
from rag.gear.shape import read_shape
from rag.models.bert_layers import padded
from rag.models.resolver import ResolvedModel, resolve
from rag.models.torch_runtime import Precision, computing_in
from rag.retrievers.batching import token_batches
from rag.retrievers.dense import DenseParams
from rag.retrievers.model_tokens import ModelTokenizer
from rag.retrievers.one_pass import SharedLayers
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
        precision: Precision = "float32",
    ) -> None:
        self.entry = entry
        shape = read_shape(model.folder)
        self._encoder = open_bi_encoder(model, cache, device)
        params = msgspec.convert(entry.params, DenseParams)
        self.max_tokens = min(shape.max_tokens, params.max_tokens or shape.max_tokens)
        self._tokenizer = ModelTokenizer(resolve(shape.base, cache).folder, self.max_tokens)
        self._base_sha256 = shape.base_sha256
        self._device, self._batch_tokens, self._precision = device, batch_tokens, precision

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

    def shared_layers(self) -> SharedLayers | None:
        """The base's lowest layers, below GeAR's own."""
        return SharedLayers(
            encoder=self._encoder.base,
            tokenizer=self._tokenizer,
            sha256=self._base_sha256,
            max_tokens=self.max_tokens,
            passage_prompt="",
            n_layers=self._encoder.upper.first,
            batch_tokens=self._batch_tokens,
            precision=self._precision,
        )

    def begin(self, n_passages: int) -> Floats:
        """Room for unit vectors `[n, d]`."""
        return np.zeros((n_passages, self._encoder.base.shape.hidden_size), dtype=np.float32)

    def take(
        self,
        found: Floats,
        places: Sequence[int],
        states: torch.Tensor,
        mask: torch.Tensor | None,
        rows: Sequence[Sequence[int]],  # noqa: ARG002
    ) -> None:
        """The mean of GeAR's own last layer's states, of unit length."""
        found[list(places)] = pooled(self._encoder.upper.run(states, mask), mask).cpu().numpy()

    def finish(self, found: Floats) -> PassageVectors:
        """Unit vectors float32 `[n, d]`."""
        return PassageVectors(dense=found)

    def _encode(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> tuple[Floats, list[bool]]:
        read = self._tokenizer.read(texts)
        vectors = self.begin(len(texts))
        pad = self._encoder.base.shape.pad_token_id
        for batch in token_batches([len(one.ids) for one in read], self._batch_tokens):
            rows = [read[place].ids for place in batch]
            with torch.inference_mode(), computing_in(self._precision, self._device):
                ids, mask = padded(rows, pad, self._device)
                self.take(vectors, batch, self._encoder.shared(ids, mask), mask, rows)
            on_done(len(batch))
        return vectors, [one.truncated for one in read]
