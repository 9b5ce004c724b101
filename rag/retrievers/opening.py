"""From a specification or a manifest's entry to a working retriever."""

from __future__ import annotations

from indexes.analyzer import Analyzer
from indexes.errors import Conflict, UsageError
from indexes.manifest import RetrieverEntry
from rag.config import Settings
from rag.gear.shape import is_gear
from rag.models.resolver import ResolvedModel, resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress
from rag.retrievers.bm25 import Bm25Retriever, bm25_entry
from rag.retrievers.dense import DenseRetriever, dense_entry
from rag.retrievers.duplex_layout import is_duplex
from rag.retrievers.dupmae import DupmaeRetriever, dupmae_entry
from rag.retrievers.retriever import MODEL_KINDS, Retriever, RetrieverSpec
from rag.retrievers.splade import SpladeRetriever, splade_entry
from rag.retrievers.splade_layout import is_splade


def entry_of(spec: RetrieverSpec, settings: Settings, progress: Progress) -> RetrieverEntry:
    """What the manifest will say of a retriever: its model is pulled if need be, not loaded."""
    if spec.kind == "bm25":
        return bm25_entry(spec)
    if spec.kind not in MODEL_KINDS:
        raise UsageError(f"unknown kind of retriever {spec.kind!r}")
    model = resolve(spec.model, settings.cache, download=True, progress=progress)
    if spec.kind == "dupmae" or (spec.kind == "auto" and is_duplex(model.folder)):
        return dupmae_entry(spec, model, settings.cache, progress)
    if spec.kind == "gear" or (spec.kind == "auto" and is_gear(model.folder)):
        return dense_entry(spec, model, "gear")
    if spec.kind == "splade" or (spec.kind == "auto" and is_splade(model.folder)):
        queries = _query_model(spec.params, settings, download=True, progress=progress)
        return splade_entry(spec, model, queries)
    if spec.kind == "auto" and model.kind == "generator":
        raise UsageError(
            f"retriever {spec.name!r}: {spec.model} generates text; "
            "for Echo-SPLADE add :kind=splade"
        )
    return dense_entry(spec, model)


def open_retriever(entry: RetrieverEntry, analyzer: Analyzer, settings: Settings) -> Retriever:
    """Load what an entry names.

    Raises `Conflict` when the model's weights are not those the index was built with: scores
    would be meaningless.
    """
    if entry.kind == "bm25":
        return Bm25Retriever(entry, analyzer)
    use_threads(settings.n_threads)
    model = resolve(entry.model, settings.cache)
    _check_digest(entry.model, entry.sha256, model.sha256)
    if entry.kind == "dense":
        return DenseRetriever(
            entry,
            model,
            device=settings.device,
            batch_tokens=settings.encode_batch_tokens,
            precision=settings.encode_precision,
        )
    if entry.kind == "gear":
        # torch is loaded only where a model needs it.
        from rag.retrievers.gear import GearRetriever

        return GearRetriever(
            entry,
            model,
            cache=settings.cache,
            device=settings.device,
            batch_tokens=settings.encode_batch_tokens,
            precision=settings.encode_precision,
        )
    if entry.kind == "dupmae":
        return DupmaeRetriever(
            entry,
            model,
            cache=settings.cache,
            device=settings.device,
            batch_tokens=settings.encode_batch_tokens,
            precision=settings.encode_precision,
        )
    queries = _query_model(entry.params, settings)
    spec = RetrieverSpec(entry.name, entry.kind, entry.model, entry.params)
    now = splade_entry(spec, model, queries).params.get("query_sha256", "")
    _check_digest(f"the query weights of {entry.model}", entry.params.get("query_sha256", ""), now)
    return SpladeRetriever(
        entry,
        model,
        device=settings.device,
        batch_tokens=settings.encode_batch_tokens,
        query_model=queries,
    )


def _query_model(
    params: dict[str, object],
    settings: Settings,
    *,
    download: bool = False,
    progress: Progress | None = None,
) -> ResolvedModel | None:
    """The separate model that encodes queries, where one is asked for."""
    name = str(params.get("query_model", ""))
    if not name:
        return None
    return resolve(name, settings.cache, download=download, progress=progress)


def _check_digest(name: str, built_with: str, here: str) -> None:
    if here != built_with:
        raise Conflict(
            f"the index was built with {name} {built_with[:12]}, "
            f"but {here[:12]} is here: pull that model or build the index again"
        )
