"""SPLADE: passages and queries as weights over a model's vocabulary (Formal et al. 2021, 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from indexes.errors import ModelError, UsageError
from indexes.manifest import RetrieverEntry
from indexes.representation import (
    Floats,
    PassageVectors,
    QueryVector,
    Rows,
    SparseRows,
    SparseVector,
)
from rag.models.resolver import ResolvedModel
from rag.retrievers.batching import token_batches
from rag.retrievers.max_pooling import Activation, Pooling
from rag.retrievers.retriever import EncodedQuery, RetrieverSpec
from rag.retrievers.vocabulary_model import VocabularyModel

DEFAULT_MAX_TOKENS = 256
IDF_FILE = "idf.json"
BATCH_TOKENS = 1024
"""Tokens in a batch: more would push the slices of the head's product out of the cache."""


class SpladeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How texts become sparse vectors.

    `query` is where query weights come from: the model, `binary` (each token of the query counts
    1, SPLADE-doc) or `idf` (the checkpoint's table: inference-free). `doc_terms` and
    `query_terms` keep the n largest weights (0: all). `echo` reads a causal model's second pass.
    """

    max_tokens: Annotated[int, Meta(ge=4, le=32_768)] = DEFAULT_MAX_TOKENS
    doc_terms: Annotated[int, Meta(ge=0)] = 0
    query_terms: Annotated[int, Meta(ge=0)] = 0
    query: Literal["model", "binary", "idf"] = "model"
    pooling: Pooling = "max"
    activation: Activation = "log1p_relu"
    echo: bool = False


class SourceWord(msgspec.Struct, frozen=True):
    """The stretch of a text, in code points, that gave a term its weight."""

    term: str
    start: int
    end: int


class SpladeRetriever:
    """Owns a loaded encoder. Encoding is safe for threads: nothing is changed by it."""

    def __init__(self, entry: RetrieverEntry, model: ResolvedModel, *, device: str) -> None:
        self.entry = entry
        self._params = msgspec.convert(entry.params, SpladeParams)
        self._model = VocabularyModel(model.folder, device=device, echo=self._params.echo)
        self.max_tokens = min(self._params.max_tokens, self._model.limit)
        self._table = _query_table(model.folder, self._params.query, self._model.tokens)
        self._numbers = {token: number for number, token in enumerate(self._model.tokens)}

    def encode_passages(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> PassageVectors:
        """Sparse rows over the model's tokens; weights above 0 only."""
        rows, _ = self._model.token_ids(texts, self.max_tokens)
        found = self._encode(rows, self._params.doc_terms, on_done)
        indptr = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(ids) for ids, _ in found], out=indptr[1:])
        return PassageVectors(
            sparse=SparseRows(
                vocabulary=self._model.tokens,
                indptr=indptr,
                term_ids=np.concatenate([ids for ids, _ in found] or [np.zeros(0, np.uint32)]),
                weights=np.concatenate([held for _, held in found] or [np.zeros(0, np.float32)]),
            )
        )

    def encode_queries(self, queries: Sequence[str]) -> list[EncodedQuery]:
        """Sparse vectors, and whether a query was longer than the model reads."""
        rows, cut = self._model.token_ids(queries, self.max_tokens)
        if self._table is not None:
            found = [self._looked_up(text) for text in queries]
        else:
            found = self._encode(rows, self._params.query_terms, lambda _: None)
        return [
            EncodedQuery(QueryVector(sparse=self._named(ids, held)), truncated)
            for (ids, held), truncated in zip(found, cut, strict=True)
        ]

    def sources(self, text: str, terms: Sequence[str]) -> list[SourceWord]:
        """For each term the word of `text` that raised its weight most.

        A term whose maximum lies on a special token has no word and is left out.
        """
        known = [term for term in terms if term in self._numbers]
        if not known:
            return []
        rows, _ = self._model.token_ids([text], self.max_tokens)
        spans = self._model.offsets(text, self.max_tokens)
        places = self._model.best_positions(rows[0], [self._numbers[term] for term in known])
        return [
            SourceWord(term, *spans[place])
            for term, place in zip(known, places, strict=True)
            if place < len(spans) and spans[place][1] > spans[place][0]
        ]

    def _encode(
        self, rows: Sequence[Sequence[int]], n_terms: int, on_done: Callable[[int], None]
    ) -> list[tuple[Rows, Floats]]:
        """Token ids and weights of each row, ids ascending."""
        found: list[tuple[Rows, Floats]] = [
            (np.zeros(0, np.uint32), np.zeros(0, np.float32)) for _ in rows
        ]
        for batch in token_batches([len(row) for row in rows], BATCH_TOKENS):
            block = self._model.weights(
                [rows[place] for place in batch], self._params.pooling, self._params.activation
            )
            for place, weights in zip(batch, block.numpy(), strict=True):
                found[place] = largest(weights, n_terms)
            on_done(len(batch))
        return found

    def _looked_up(self, query: str) -> tuple[Rows, Floats]:
        """A query's distinct tokens with the table's weights: no model runs."""
        assert self._table is not None
        spans = self._model.offsets(query, self.max_tokens)
        rows, _ = self._model.token_ids([query], self.max_tokens)
        ids = {token for token, span in zip(rows[0], spans, strict=True) if span[1] > span[0]}
        kept = np.array(sorted(ids), dtype=np.uint32)
        weights = self._table[kept]
        return kept[weights > 0], weights[weights > 0]

    def _named(self, ids: Rows, weights: Floats) -> SparseVector:
        return SparseVector([self._model.tokens[number] for number in ids], weights.tolist())


def largest(weights: Floats, n_terms: int) -> tuple[Rows, Floats]:
    """Positions, ascending, and values of the `n_terms` largest weights above 0 (0: all)."""
    ids = np.flatnonzero(weights > 0)
    if n_terms and len(ids) > n_terms:
        order = np.argsort(-weights[ids], kind="stable")[:n_terms]
        ids = np.sort(ids[order])
    return ids.astype(np.uint32), weights[ids].astype(np.float32)


def _query_table(folder: Path, query: str, tokens: Sequence[str]) -> Floats | None:
    """Weight of each token in a query, float32 `[V]`; None where the model gives them."""
    if query == "model":
        return None
    if query == "binary":
        return np.ones(len(tokens), dtype=np.float32)
    files = sorted(folder.rglob(IDF_FILE))
    if files:
        table = msgspec.json.decode(files[0].read_bytes(), type=dict[str, float])
        return np.array([table.get(token, 0.0) for token in tokens], dtype=np.float32)
    for place in sorted(folder.glob("query_*")):
        weights = _static_weights(place)
        if weights is not None and len(weights) >= len(tokens):
            return weights[: len(tokens)]
    raise ModelError(f"{folder.name} has no {IDF_FILE} and no static query weights")


def _static_weights(folder: Path) -> Floats | None:
    """The table of a sentence-transformers `SparseStaticEmbedding`."""
    from safetensors.numpy import load_file

    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(file).items():
            if name.endswith("weight") and tensor.ndim == 1:
                return np.asarray(tensor, dtype=np.float32)
    return None


def splade_entry(spec: RetrieverSpec, model: ResolvedModel) -> RetrieverEntry:
    """The manifest's entry of a SPLADE retriever. Raises `UsageError` for unknown settings."""
    try:
        params = msgspec.convert(spec.params, SpladeParams)
    except msgspec.ValidationError as error:
        raise UsageError(f"retriever {spec.name!r}: {error}") from error
    return RetrieverEntry(
        name=spec.name,
        kind="splade",
        parts=["sparse"],
        model=spec.model,
        revision=model.revision,
        sha256=model.sha256,
        params=msgspec.to_builtins(params),
    )
