"""A dense retriever: any sentence-transformers model, cosine similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from indexes.errors import ModelError, UsageError
from indexes.manifest import RetrieverEntry
from indexes.representation import Floats, PassageVectors, QueryVector
from rag.models.resolver import ResolvedModel
from rag.models.torch_runtime import Precision, computing_in, quiet_transformers
from rag.retrievers.batching import token_batches
from rag.retrievers.dense_layout import DenseLayout, mean_layout, prompts_of
from rag.retrievers.model_tokens import ModelTokenizer, load_tokenizer
from rag.retrievers.one_pass import SharedLayers
from rag.retrievers.retriever import EncodedQuery, RetrieverSpec

if TYPE_CHECKING:
    import torch

    from rag.models.fixed_encoder import FixedEncoder

UNBOUNDED = 1 << 30
"""More tokens than any text has."""


class DenseParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`max_tokens` cuts texts shorter than the model's own limit: faster, and coarser."""

    max_tokens: Annotated[int, Meta(ge=4, le=32_768)] | None = None


class DenseRetriever:
    """Owns a loaded encoder. Encoding is safe for threads: nothing is changed by it."""

    def __init__(
        self,
        entry: RetrieverEntry,
        model: ResolvedModel,
        *,
        device: str,
        batch_tokens: int,
        precision: Precision = "float32",
    ) -> None:
        import torch

        self.entry = entry
        self._folder, self._device, self._precision = model.folder, device, precision
        self._batch_tokens = batch_tokens
        self._torch = torch
        # A tokenizer of our own: the model's is shared state that padding would change.
        self._tokenizer = load_tokenizer(model.folder)
        layout = mean_layout(model.folder)
        self._averages = layout is not None
        self._model: Any = None  # our own layers compute the same, faster
        if layout is None:
            self._model = _opened(model, device)
            layout = DenseLayout(
                self._model.max_seq_length or UNBOUNDED,
                int(self._model.get_embedding_dimension()),
                *prompts_of(self._model.prompts),
            )
        params = msgspec.convert(entry.params, DenseParams)
        self.max_tokens = min(params.max_tokens or UNBOUNDED, layout.max_tokens)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self._query_prompt, self._passage_prompt = layout.query_prompt, layout.passage_prompt
        self._dimension = layout.dimension
        self.shared_layers()  # loads them now: what is damaged is told when it is opened

    def encode_passages(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> PassageVectors:
        """Unit vectors float32 `[n, d]`."""
        vectors, _ = self._encode([self._passage_prompt + text for text in texts], on_done)
        return PassageVectors(dense=vectors)

    def encode_queries(self, queries: Sequence[str]) -> list[EncodedQuery]:
        """Unit vectors, and whether a query was longer than the model reads."""
        vectors, truncated = self._encode([self._query_prompt + q for q in queries], lambda _: None)
        return [
            EncodedQuery(QueryVector(dense=vector), cut)
            for vector, cut in zip(vectors, truncated, strict=True)
        ]

    @property
    def computes_alone(self) -> bool:
        """Whether a batch of queries is computed by the thread that asks, without others' help."""
        return self._fixed_encoder is not None

    @cached_property
    def _fixed_encoder(self) -> FixedEncoder | None:
        shared = self.shared_layers()
        with self._torch.inference_mode(), computing_in(self._precision, self._device):
            return None if shared is None else shared.encoder.fixed()

    def shared_layers(self) -> SharedLayers | None:
        """All layers, where the model is a plain BERT whose states are averaged."""
        return self._shared

    @cached_property
    def _shared(self) -> SharedLayers | None:
        from rag.models.bert_layers import shared_encoder

        if not self._averages:
            return None
        encoder = shared_encoder(self._folder, self._device)
        return SharedLayers(
            encoder=encoder,
            tokenizer=ModelTokenizer(self._folder, self.max_tokens),
            sha256=self.entry.sha256,
            max_tokens=self.max_tokens,
            passage_prompt=self._passage_prompt,
            n_layers=encoder.shape.num_hidden_layers,
            batch_tokens=self._batch_tokens,
            precision=self._precision,
        )

    def begin(self, n_passages: int) -> Floats:
        """Room for unit vectors `[n, d]`."""
        return np.zeros((n_passages, self._dimension), np.float32)

    def take(
        self,
        found: Floats,
        places: Sequence[int],
        states: torch.Tensor,
        mask: torch.Tensor | None,
        rows: Sequence[Sequence[int]],  # noqa: ARG002
    ) -> None:
        """The mean of the last layer's states, of unit length."""
        from rag.models.bert_layers import mean_state

        unit = self._torch.nn.functional.normalize(mean_state(states, mask).float(), dim=1)
        found[list(places)] = unit.cpu().numpy()

    def finish(self, found: Floats) -> PassageVectors:
        """Unit vectors float32 `[n, d]`."""
        return PassageVectors(dense=found)

    def _encode(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> tuple[Floats, list[bool]]:
        if len(texts) == 1:  # a batch is spread over threads, which one text does not gain by
            encodings = [self._tokenizer.encode(texts[0])]
        else:
            encodings = self._tokenizer.encode_batch_fast(list(texts))
        ids = [encoding.ids for encoding in encodings]
        lengths = [len(row) for row in ids]
        vectors = self.begin(len(texts))
        for batch in token_batches(lengths, self._batch_tokens):
            vectors[batch] = self._forward([ids[position] for position in batch])
            on_done(len(batch))
        return vectors, [bool(encoding.overflowing) for encoding in encodings]

    def _forward(self, rows: Sequence[Sequence[int]]) -> Floats:
        """One padded batch through the model: float32 `[len(rows), d]`, unit length."""
        if self._fixed_encoder is not None:
            return self._fixed_encoder.unit_means(rows)
        torch = self._torch
        with torch.inference_mode(), computing_in(self._precision, self._device):
            vectors = self._mean_states(rows) if self._model is None else self._embedded(rows)
            unit = torch.nn.functional.normalize(vectors.float(), dim=1)
        found: Floats = unit.cpu().numpy()
        return found

    def _mean_states(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        from rag.models.bert_layers import mean_state, padded

        shared = self.shared_layers()
        assert shared is not None
        encoder = shared.encoder
        ids, mask = padded(rows, encoder.shape.pad_token_id, self._device)
        return mean_state(encoder.run(encoder.embed(ids), mask), mask)

    def _embedded(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """By all of the model's own modules."""
        torch = self._torch
        longest = max(len(row) for row in rows)
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        features = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": torch.zeros_like(ids),
        }
        features = {key: value.to(self._model.device) for key, value in features.items()}
        return self._model(features)["sentence_embedding"]


def dense_entry(spec: RetrieverSpec, model: ResolvedModel, kind: str = "dense") -> RetrieverEntry:
    """The manifest's entry of a dense retriever. Raises `UsageError` for unknown settings."""
    try:
        params = msgspec.convert(spec.params, DenseParams)
    except msgspec.ValidationError as error:
        raise UsageError(f"retriever {spec.name!r}: {error}") from error
    return RetrieverEntry(
        name=spec.name,
        kind=kind,
        parts=["dense"],
        model=spec.model,
        revision=model.revision,
        sha256=model.sha256,
        params=msgspec.to_builtins(params),
    )


def _opened(model: ResolvedModel, device: str) -> Any:
    """A model of any modules. Raises `ModelError`."""
    from sentence_transformers import SentenceTransformer

    try:
        with quiet_transformers():
            return SentenceTransformer(
                str(model.folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            ).eval()
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the dense model {model.name!r} cannot be loaded: {error}") from error
