"""SPLADE: passages and queries as weights over a model's vocabulary (Formal et al. 2021, 2022).

score(q, d) = Σ_j q_j · d_j. Passages always come from a masked or causal language model's head;
queries from the same model, from a smaller one with the same vocabulary (Lassance and Clinchant
2022), or from no model at all: each token of the query weighs 1 or what a table says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from indexes.errors import ModelError, UsageError
from indexes.manifest import RetrieverEntry
from indexes.representation import PassageVectors, QueryVector, SparseRows, SparseVector
from rag.models.resolver import ResolvedModel
from rag.retrievers.max_pooling import Activation
from rag.retrievers.query_weights import read_table, table_sha256
from rag.retrievers.retriever import EncodedQuery, RetrieverSpec, TermSource
from rag.retrievers.splade_layout import Side, SpladeLayout, read_layout
from rag.retrievers.term_sources import shifted
from rag.retrievers.vocabulary_encoder import TermWeights, VocabularyEncoder

DEFAULT_MAX_TOKENS = 256

Terms = Annotated[int, Meta(ge=0, le=1_000_000)]


class SpladeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How texts become sparse vectors. What is not given is what the checkpoint's folder says.

    `doc_terms` and `query_terms` keep the n heaviest terms (0: all). `query` is where a query's
    weights come from: `model`, `binary` (each token 1) or `idf` (the checkpoint's table).
    `query_model` names another encoder for queries. `pooling` `echo` reads the text twice with a
    causal model and pools by maximum over the second reading. `query_sha256` is written by us.
    """

    max_tokens: Annotated[int, Meta(ge=4, le=32_768)] | None = None
    doc_terms: Terms = 0
    query_terms: Terms = 0
    query: Literal["model", "binary", "idf"] | None = None
    query_model: str = ""
    query_sha256: str = ""
    pooling: Literal["max", "sum", "echo"] | None = None
    activation: Activation | None = None


class SpladeRetriever:
    """Owns the loaded encoders. Encoding is safe for threads: nothing is changed by it.

    Raises `ModelError` when the query encoder has another vocabulary or there is no table.
    """

    def __init__(
        self,
        entry: RetrieverEntry,
        model: ResolvedModel,
        *,
        device: str,
        batch_tokens: int,
        query_model: ResolvedModel | None = None,
    ) -> None:
        self.entry = entry
        self._params = msgspec.convert(entry.params, SpladeParams)
        layout = read_layout(model.folder)
        self._passage_prompt, self._query_prompt = layout.passage_prompt, layout.query_prompt
        self._device, self._batch_tokens = device, batch_tokens
        self.documents = self._encoder(_as_asked(layout.documents, self._params), layout)
        self.queries = self._query_encoder(layout, query_model)
        self._table = None
        if self._params.query == "idf":
            self._table = read_table(_table_of(layout, model.name), self.documents.tokens)
        elif self._params.query == "binary":
            self._table = np.ones(len(self.documents.tokens), dtype=np.float32)
        if self.queries.tokens != self.documents.tokens:
            raise ModelError(f"{entry.name}: the query encoder has another vocabulary")

    @property
    def vocabulary(self) -> list[str]:
        """The terms, in the order of their token ids."""
        return self.documents.tokens

    def encode_passages(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> PassageVectors:
        """Sparse rows float32 over the model's tokens; weights above 0 only."""
        prompted = [self._passage_prompt + text for text in texts]
        found = self.documents.encode(prompted, self._params.doc_terms, on_done)
        indptr = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(terms.ids) for terms in found], out=indptr[1:])
        ids = [np.zeros(0, np.uint32), *(terms.ids for terms in found)]
        weights = [np.zeros(0, np.float32), *(terms.weights for terms in found)]
        return PassageVectors(
            sparse=SparseRows(
                vocabulary=self.vocabulary,
                indptr=indptr,
                term_ids=np.concatenate(ids),
                weights=np.concatenate(weights),
            )
        )

    def encode_queries(self, queries: Sequence[str]) -> list[EncodedQuery]:
        """Sparse vectors, and whether a query was longer than the model reads."""
        return [
            EncodedQuery(
                QueryVector(
                    sparse=SparseVector(
                        [self.vocabulary[number] for number in terms.ids.tolist()],
                        terms.weights.tolist(),
                    )
                ),
                terms.truncated,
            )
            for terms in self._query_terms(queries)
        ]

    def passage_sources(self, text: str) -> list[TermSource]:
        """The passage's terms, each with the word that the pooling took it from."""
        prompted = self._passage_prompt + text
        terms = self.documents.encode([prompted], self._params.doc_terms, _nobody)[0]
        return shifted(self.documents.sources(prompted, terms), len(self._passage_prompt))

    def query_sources(self, query: str) -> list[TermSource]:
        """The query's terms, each with its word."""
        terms = self._query_terms([query])[0]
        if self._table is not None:
            return self.queries.own_words(query, terms)
        found = self.queries.sources(self._query_prompt + query, terms)
        return shifted(found, len(self._query_prompt))

    def _query_terms(self, queries: Sequence[str]) -> list[TermWeights]:
        n_terms = self._params.query_terms
        if self._table is not None:
            return self.queries.looked_up(queries, self._table, n_terms)
        prompted = [self._query_prompt + query for query in queries]
        return self.queries.encode(prompted, n_terms, _nobody)

    def _query_encoder(
        self, layout: SpladeLayout, query_model: ResolvedModel | None
    ) -> VocabularyEncoder:
        if query_model is not None:
            other = read_layout(query_model.folder)
            self._query_prompt = other.query_prompt
            return self._encoder(other.documents, other)
        alone = self._params.query != "model" or layout.queries.folder in (
            layout.documents.folder,
            None,
        )
        return self.documents if alone else self._encoder(layout.queries, layout)

    def _encoder(self, side: Side, layout: SpladeLayout) -> VocabularyEncoder:
        limits = [self._params.max_tokens or DEFAULT_MAX_TOKENS, layout.max_tokens]
        return VocabularyEncoder(
            side,
            echo=side.head == "causal" and self._params.pooling == "echo",
            max_tokens=min(limit for limit in limits if limit),
            device=self._device,
            batch_tokens=self._batch_tokens,
        )


def splade_entry(
    spec: RetrieverSpec, model: ResolvedModel, query_model: ResolvedModel | None = None
) -> RetrieverEntry:
    """The manifest's entry of a SPLADE retriever: its settings, and what the folder decides.

    Raises `UsageError` for unknown or contradicting settings.
    """
    try:
        params = msgspec.convert(spec.params, SpladeParams)
    except msgspec.ValidationError as error:
        raise UsageError(f"retriever {spec.name!r}: {error}") from error
    layout = read_layout(model.folder)
    table = layout.queries.table is not None and query_model is None
    pooling = "echo" if layout.documents.head == "causal" else layout.documents.pooling
    params = msgspec.structs.replace(
        params,
        query=params.query or ("idf" if table else "model"),
        pooling=params.pooling or pooling,
        activation=params.activation or layout.documents.activation,
    )
    _check(spec.name, params, layout)
    digest = "" if query_model is None else query_model.sha256
    if params.query == "idf":
        digest = table_sha256(_table_of(layout, model.name))
    return RetrieverEntry(
        name=spec.name,
        kind="splade",
        parts=["sparse"],
        model=spec.model,
        revision=model.revision,
        sha256=model.sha256,
        params=msgspec.to_builtins(msgspec.structs.replace(params, query_sha256=digest)),
    )


def _check(name: str, params: SpladeParams, layout: SpladeLayout) -> None:
    if layout.documents.head == "none":
        raise UsageError(f"retriever {name!r}: its model has no head over the vocabulary")
    if params.pooling == "echo" and layout.documents.head != "causal":
        raise UsageError(f"retriever {name!r}: pooling=echo needs a causal language model")
    if params.query_model and params.query != "model":
        raise UsageError(f"retriever {name!r}: query={params.query} runs no query_model")


def _as_asked(side: Side, params: SpladeParams) -> Side:
    pooling = "max" if params.pooling == "echo" else params.pooling
    return msgspec.structs.replace(
        side,
        pooling=pooling or side.pooling,
        activation=params.activation or side.activation,
    )


def _table_of(layout: SpladeLayout, name: str) -> Path:
    if layout.queries.table is None:
        raise ModelError(f"{name} has no table of query weights: use query=binary or query=model")
    return layout.queries.table


def _nobody(_: int) -> None:
    """Progress that nobody follows."""
