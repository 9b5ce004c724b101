"""A dense retriever: any sentence-transformers model, cosine similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from indexes.errors import ModelError, UsageError
from indexes.manifest import RetrieverEntry
from indexes.representation import Floats, PassageVectors, QueryVector
from rag.models.resolver import ResolvedModel
from rag.models.torch_runtime import quiet_transformers
from rag.retrievers.batching import token_batches
from rag.retrievers.retriever import EncodedQuery, RetrieverSpec


class DenseParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`max_tokens` cuts texts shorter than the model's own limit: faster, and coarser."""

    max_tokens: Annotated[int, Meta(ge=4, le=32_768)] | None = None


class DenseRetriever:
    """Owns a loaded encoder. Encoding is safe for threads: nothing is changed by it."""

    def __init__(
        self, entry: RetrieverEntry, model: ResolvedModel, *, device: str, batch_tokens: int
    ) -> None:
        import torch
        from sentence_transformers import SentenceTransformer
        from tokenizers import Tokenizer

        self.entry = entry
        self._batch_tokens = batch_tokens
        self._torch = torch
        try:
            with quiet_transformers():
                self._model: Any = SentenceTransformer(
                    str(model.folder),
                    device=device,
                    trust_remote_code=False,
                    local_files_only=True,
                    model_kwargs={"use_safetensors": True},
                ).eval()
            # A tokenizer of our own: the model's is shared state that padding would change.
            self._tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"the dense model {model.name!r} cannot be loaded: {error}") from error
        params = msgspec.convert(entry.params, DenseParams)
        limits = [limit for limit in (params.max_tokens, self._model.max_seq_length) if limit]
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_tokens = min(limits)
        self._tokenizer.enable_truncation(self.max_tokens)
        prompts: dict[str, str] = self._model.prompts
        self._query_prompt = prompts.get("query", "")
        self._passage_prompt = prompts.get("document", prompts.get("passage", ""))

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

    def _encode(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> tuple[Floats, list[bool]]:
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = [encoding.ids for encoding in encodings]
        lengths = [len(row) for row in ids]
        vectors: Floats | None = None
        for batch in token_batches(lengths, self._batch_tokens):
            found = self._forward([ids[position] for position in batch])
            if vectors is None:
                vectors = np.zeros((len(texts), found.shape[1]), dtype=np.float32)
            vectors[batch] = found
            on_done(len(batch))
        if vectors is None:
            vectors = np.zeros((0, self._model.get_embedding_dimension()), np.float32)
        return vectors, [bool(encoding.overflowing) for encoding in encodings]

    def _forward(self, rows: Sequence[Sequence[int]]) -> Floats:
        """One padded batch through the model: float32 `[len(rows), d]`, unit length."""
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
        with torch.inference_mode():
            vectors = self._model(features)["sentence_embedding"]
            unit = torch.nn.functional.normalize(vectors.float(), dim=1)
        found: Floats = unit.cpu().numpy()
        return found


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
