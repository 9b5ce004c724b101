"""The dense-lexical duplex retriever (DupMAE, Xiao et al. 2023): both halves from one pass.

score(q, d) = ⟨z_q, z_d⟩ + Σ_j w_qj · w_dj over the document's heaviest terms: the dense product
by FAISS and the lexical one by impact postings, searched as one retriever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from indexes.errors import UsageError
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
from rag.models.torch_runtime import Precision, computing_in
from rag.progress import Progress, Silent
from rag.retrievers.batching import token_batches
from rag.retrievers.duplex_layout import DuplexLayout, read_duplex
from rag.retrievers.model_tokens import ModelTokenizer
from rag.retrievers.one_pass import SharedLayers
from rag.retrievers.retriever import EncodedQuery, RetrieverSpec, TermSource
from rag.retrievers.term_sources import shifted, sourced
from rag.retrievers.vocabulary_encoder import MAX_WEIGHTS, heaviest

if TYPE_CHECKING:
    import torch

    from rag.retrievers.duplex_model import DuplexModel

Part = Literal["both", "dense", "lexical"]
Terms = Annotated[int, Meta(ge=1, le=1_000_000)]


class DupmaeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which half is used, and what is kept of the lexical one; else what the folder says.

    Left out, `part` is `both`, and `dense` for a checkpoint without a head.
    """

    part: Part | None = None
    max_tokens: Annotated[int, Meta(ge=8, le=512)] | None = None
    doc_terms: Terms | None = None
    query_terms: Terms | None = None


class Duplex(msgspec.Struct, frozen=True):
    """Texts in both halves: dense `[n, d]`, and for each text its term ids, ascending, and weights.

    A half that was not asked for is None or empty.
    """

    dense: Floats | None
    terms: list[tuple[Rows, Floats]]


class DupmaeRetriever:
    """Owns a loaded duplex encoder. Encoding is safe for threads: nothing is changed by it."""

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
        from rag.retrievers.duplex_model import load_duplex

        self.entry = entry
        layout = read_duplex(model, cache)
        params = msgspec.convert(entry.params, DupmaeParams)
        config = layout.config
        self.part: Part = params.part or "both"
        self.model = load_duplex(layout, device)
        self.model.upper.seal()
        self._batch_tokens, self._device, self._precision = batch_tokens, device, precision
        self.max_tokens = min(params.max_tokens or config.max_tokens, _positions(self.model))
        self.tokenizer = ModelTokenizer(layout.encoder, self.max_tokens)
        self.vocabulary = self.tokenizer.tokens(len(self.model.decoder))
        self._doc_terms = params.doc_terms or config.doc_terms
        self._query_terms = params.query_terms or config.query_terms
        self.passage_prompt, self._query_prompt = layout.passage_prompt, layout.query_prompt

    def shared_layers(self) -> SharedLayers | None:
        """The base's lowest layers; None for a checkpoint that is an encoder of its own."""
        config = self.model.config
        if not config.n_shared_layers:
            return None
        return SharedLayers(
            encoder=self.model.encoder,
            tokenizer=self.tokenizer,
            sha256=config.base_sha256,
            max_tokens=self.max_tokens,
            passage_prompt=self.passage_prompt,
            n_layers=config.n_shared_layers,
            batch_tokens=self._batch_tokens,
            precision=self._precision,
        )

    def encode_passages(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> PassageVectors:
        """Dense float32 `[n, d]` and the heaviest terms, or the half that is used."""
        prompted = [self.passage_prompt + text for text in texts]
        rows = [read.ids for read in self.tokenizer.read(prompted)]
        return self.finish(self._encode(rows, self._doc_terms, on_done))

    def finish(self, found: Duplex) -> PassageVectors:
        """What the index keeps of encoded passages."""
        if self.part == "dense":
            return PassageVectors(dense=found.dense)
        indptr = np.zeros(len(found.terms) + 1, dtype=np.int64)
        np.cumsum([len(ids) for ids, _ in found.terms], out=indptr[1:])
        sparse = SparseRows(
            vocabulary=self.vocabulary,
            indptr=indptr,
            term_ids=np.concatenate([np.zeros(0, np.uint32), *(ids for ids, _ in found.terms)]),
            weights=np.concatenate([np.zeros(0, np.float32), *(w for _, w in found.terms)]),
        )
        return PassageVectors(sparse=sparse, dense=found.dense)

    def encode_queries(self, queries: Sequence[str]) -> list[EncodedQuery]:
        """Both halves, or the one that is used, and whether a query was cut."""
        read = self.tokenizer.read([self._query_prompt + query for query in queries])
        found = self._encode([one.ids for one in read], self._query_terms, _nobody)
        return [
            EncodedQuery(self._query_vector(found, number), text.truncated)
            for number, text in enumerate(read)
        ]

    def _query_vector(self, found: Duplex, number: int) -> QueryVector:
        config = self.model.config
        dense = (
            None if found.dense is None else found.dense[number] * np.float32(config.dense_scale)
        )
        if self.part == "dense":
            return QueryVector(dense=dense)
        ids, weights = self._scaled(*found.terms[number])
        terms = [self.vocabulary[token] for token in ids.tolist()]
        return QueryVector(sparse=SparseVector(terms, weights.tolist()), dense=dense)

    def passage_sources(self, text: str) -> list[TermSource]:
        """The passage's terms, each with the word that the pooling took it from."""
        return self._sources(self.passage_prompt, text, self._doc_terms)

    def query_sources(self, query: str) -> list[TermSource]:
        """The query's terms, each with its word."""
        return self._sources(self._query_prompt, query, self._query_terms, scale=True)

    def _sources(
        self, prompt: str, text: str, n_terms: int, *, scale: bool = False
    ) -> list[TermSource]:
        """None where the lexical half is not used, or the text has no ordinary tokens."""
        import torch

        if self.part == "dense":
            return []
        read = self.tokenizer.read_places(prompt + text)
        found = self.begin(1)
        with torch.inference_mode(), computing_in(self._precision, self._device):
            states, mask = self.model.states([read.ids])
            self._write(found, [0], states, mask, [read.ids], n_terms)
            ids, weights = found.terms[0]
            if not len(ids):
                return []
            positions = self.model.best_positions(states, read.ids, ids.tolist())
        if scale:
            ids, weights = self._scaled(ids, weights)
        places = [read.places[position] for position in positions]
        return shifted(sourced(self.vocabulary, read, ids, weights, places), len(prompt))

    def _scaled(self, ids: Rows, weights: Floats) -> tuple[Rows, Floats]:
        """A query's lexical half, of unit length where the checkpoint has it so."""
        if self.model.config.unit_query and len(weights):
            weights = weights / np.linalg.norm(weights)
        return ids, weights

    def _encode(
        self, rows: Sequence[Sequence[int]], n_terms: int, on_done: Callable[[int], None]
    ) -> Duplex:
        """Encode rows of token ids, in batches of like length."""
        import torch

        found = self.begin(len(rows))
        widest = max(1, MAX_WEIGHTS // len(self.vocabulary))
        for batch in token_batches([len(row) for row in rows], self._batch_tokens, widest):
            some = [rows[place] for place in batch]
            with torch.inference_mode(), computing_in(self._precision, self._device):
                states, mask = self.model.states(some)
                self._write(found, batch, states, mask, some, n_terms)
            on_done(len(batch))
        return found

    def begin(self, n_passages: int) -> Duplex:
        """Room for what `take` writes."""
        dense = None
        if self.part != "lexical":
            dense = np.zeros((n_passages, self.model.dimension), dtype=np.float32)
        nothing = (np.zeros(0, np.uint32), np.zeros(0, np.float32))
        return Duplex(dense, [] if self.part == "dense" else [nothing] * n_passages)

    def take(
        self,
        found: Duplex,
        places: Sequence[int],
        states: torch.Tensor,
        mask: torch.Tensor | None,
        rows: Sequence[Sequence[int]],
    ) -> None:
        """Go on from the shared layers' states and write both halves of passages."""
        self._write(found, places, self.model.upper.run(states, mask), mask, rows, self._doc_terms)

    def _write(
        self,
        found: Duplex,
        places: Sequence[int],
        states: torch.Tensor,
        mask: torch.Tensor | None,
        rows: Sequence[Sequence[int]],
        n_terms: int,
    ) -> None:
        """Both halves of the last layer's states, with the `n_terms` heaviest terms."""
        if found.dense is not None:
            found.dense[list(places)] = self.model.dense(states, mask).float().cpu().numpy()
        if self.part == "dense":
            return
        block = self.model.lexical(states, rows).numpy()
        for place, weights in zip(places, block, strict=True):
            ids = np.flatnonzero(weights).astype(np.uint32)
            found.terms[place] = heaviest(ids, weights[ids], n_terms)


def dupmae_entry(
    spec: RetrieverSpec, model: ResolvedModel, cache: Path, progress: Progress | None = None
) -> RetrieverEntry:
    """The manifest's entry of a duplex retriever: its settings, and what the folder decides.

    Says so where a checkpoint has no head, so that only [CLS] counts. Raises `UsageError` for
    unknown settings, and for the lexical half of such a checkpoint.
    """
    try:
        params = msgspec.convert(spec.params, DupmaeParams)
    except msgspec.ValidationError as error:
        raise UsageError(f"retriever {spec.name!r}: {error}") from error
    layout = read_duplex(model, cache)
    part = _part(spec.name, params, layout, progress or Silent())
    params = msgspec.structs.replace(params, part=None if part == "both" else part)
    kept = {"both": ["sparse", "dense"], "dense": ["dense"], "lexical": ["sparse"]}
    return RetrieverEntry(
        name=spec.name,
        kind="dupmae",
        parts=kept[part],
        model=spec.model,
        revision=model.revision,
        sha256=model.sha256,
        params=msgspec.to_builtins(params),
    )


def _part(name: str, params: DupmaeParams, layout: DuplexLayout, progress: Progress) -> Part:
    if layout.head != "none":
        return params.part or "both"
    if params.part not in (None, "dense"):
        raise UsageError(
            f"retriever {name!r}: its model has no head over the vocabulary: only part=dense"
        )
    progress.note(f"{name}: no head over the vocabulary in its model, so only [CLS] is used")
    return "dense"


def _positions(model: DuplexModel) -> int:
    return model.encoder.shape.max_position_embeddings


def _nobody(_: int) -> None:
    """Progress that nobody follows."""
