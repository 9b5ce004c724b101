"""Opening the generator: by onnxruntime on a CPU, by torch elsewhere and for what has no graph."""

from __future__ import annotations

from indexes.errors import Unsupported
from rag.config import Settings
from rag.generate.batching import BatchedModel
from rag.generate.language_model import LanguageModel
from rag.models.decoder_graph import Precision
from rag.models.processor import fastest_precision, multiplies_bytes
from rag.models.resolver import ResolvedModel, resolve
from rag.progress import Progress, Silent

SEQUENCES = 2
"""Sequences of a request: its own, and one that drafts or is contrasted with."""


def open_generator(
    name: str, settings: Settings, progress: Progress | None = None
) -> LanguageModel:
    """The language model `name`, run as `settings.backend` says, for any number of threads.

    `auto` on a CPU is the graph that is fastest there, int8 or int4, built at the first call; other
    devices and architectures without a graph get torch. Raises `ModelError` when the model is not
    here or cannot be loaded, `Unsupported` for a precision asked for by name that its architecture
    has no graph for, or the processor no instructions.
    """
    return BatchedModel(_open(resolve(name, settings.cache), settings, progress or Silent()))


def precision_of(settings: Settings) -> Precision:
    """The precision of the graph that `settings.backend` means on this machine's CPU."""
    match settings.backend:
        case "int8" | "int4" | "fp32":
            return settings.backend
    return fastest_precision()


def _open(model: ResolvedModel, settings: Settings, progress: Progress) -> LanguageModel:
    if settings.backend == "torch" or (settings.backend == "auto" and settings.device != "cpu"):
        return _on_torch(model, settings)
    try:
        return _on_onnxruntime(model, settings, progress)
    except Unsupported:
        if settings.backend != "auto":
            raise
        return _on_torch(model, settings)


def _on_onnxruntime(model: ResolvedModel, settings: Settings, progress: Progress) -> LanguageModel:
    from rag.generate.onnx_model import load_onnx_model
    from rag.models.optimize import optimize

    if settings.device != "cpu":
        raise Unsupported(f"the backend {settings.backend} runs on a CPU, not on {settings.device}")
    precision = precision_of(settings)
    if precision == "int8" and not multiplies_bytes():
        raise Unsupported("the backend int8 needs a processor with VNNI: take int4")
    graph = optimize(model, settings.cache, precision, progress=progress)
    n_slots = SEQUENCES * settings.max_concurrency
    return load_onnx_model(model, graph, n_threads=settings.n_threads, n_slots=n_slots)


def _on_torch(model: ResolvedModel, settings: Settings) -> LanguageModel:
    from rag.generate.torch_model import load_torch_model

    return load_torch_model(
        model.folder, name=model.name, device=settings.device, n_threads=settings.n_threads
    )
