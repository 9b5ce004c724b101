"""From a specification or a manifest's entry to a working retriever."""

from __future__ import annotations

from indexes.analyzer import Analyzer
from indexes.errors import Conflict, UsageError
from indexes.manifest import RetrieverEntry
from rag.config import Settings
from rag.models.resolver import resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress
from rag.retrievers.bm25 import Bm25Retriever, bm25_entry
from rag.retrievers.dense import DenseRetriever, dense_entry
from rag.retrievers.retriever import Retriever, RetrieverSpec
from rag.retrievers.splade import SpladeRetriever, splade_entry


def entry_of(spec: RetrieverSpec, settings: Settings, progress: Progress) -> RetrieverEntry:
    """What the manifest will say of a retriever: its model is pulled if need be, not loaded."""
    if spec.kind == "bm25":
        return bm25_entry(spec)
    if spec.kind == "dense":
        return dense_entry(
            spec, resolve(spec.model, settings.cache, download=True, progress=progress)
        )
    if spec.kind == "splade":
        return splade_entry(
            spec, resolve(spec.model, settings.cache, download=True, progress=progress)
        )
    raise UsageError(f"unknown kind of retriever {spec.kind!r}")


def open_retriever(entry: RetrieverEntry, analyzer: Analyzer, settings: Settings) -> Retriever:
    """Load what an entry names.

    Raises `Conflict` when the model's weights are not those the index was built with: scores
    would be meaningless.
    """
    if entry.kind == "bm25":
        return Bm25Retriever(entry, analyzer)
    use_threads(settings.n_threads)
    model = resolve(entry.model, settings.cache)
    if model.sha256 != entry.sha256:
        raise Conflict(
            f"the index was built with {entry.model} {entry.sha256[:12]}, "
            f"but {model.sha256[:12]} is here: pull that model or build the index again"
        )
    if entry.kind == "splade":
        return SpladeRetriever(entry, model, device=settings.device)
    return DenseRetriever(
        entry, model, device=settings.device, batch_tokens=settings.encode_batch_tokens
    )
