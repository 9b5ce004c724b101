"""The whole configuration behind a number, as plain data that can be compared."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from eval.ask import AnswerPlan
from eval.batch_search import SearchPlan
from eval.record import ModelFacts
from indexes.manifest import Manifest
from rag.answering import MIN_EVIDENCE
from rag.config import Settings
from rag.models.resolver import resolve
from rag.ranking import choices_of


def index_config(manifest: Manifest) -> dict[str, Any]:
    """How the index was made: analyzer, passages, and every retriever with its model's hash."""
    return {
        "analyzer": manifest.analyzer,
        "passages": manifest.passages,
        "retrievers": msgspec.to_builtins(manifest.retrievers),
    }


def search_config(manifest: Manifest, plan: SearchPlan) -> dict[str, Any]:
    """How it is searched. A single retriever keeps its own scores, so it has no fusion."""
    choices = choices_of(manifest, plan.choices)
    return {
        "retrievers": msgspec.to_builtins(choices),
        "fusion": msgspec.to_builtins(plan.fusion) if len(choices) > 1 else None,
        "limit": plan.limit,
        "drop_self": plan.drop_self,
    }


def answer_config(plan: AnswerPlan, settings: Settings) -> dict[str, Any]:
    """How answers are made, the service's own threshold written out."""
    compress = None
    if plan.compress is not None:
        options = msgspec.to_builtins(plan.compress)
        compress = {"by": plan.compress_by, "compressor": settings.compressor, **options}
    return {
        "decode": msgspec.to_builtins(plan.decode),
        "compress": compress,
        "backend": settings.backend,
        "min_evidence": MIN_EVIDENCE if plan.min_evidence is None else plan.min_evidence,
    }


def generator_facts(settings: Settings) -> ModelFacts:
    """The language model by the hash of its weights. Raises `ModelError` when it is not here."""
    model = resolve(settings.generator, settings.cache)
    return ModelFacts(model.name, model.revision, model.sha256)


def digest_of(*parts: Any) -> str:
    """SHA-256 over the parts as canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()
