"""Opening the generator: our compiled loops or onnxruntime on a CPU, torch for all else."""

from __future__ import annotations

from indexes.errors import Unsupported
from rag.config import Settings
from rag.generate.batching import BatchedModel
from rag.generate.language_model import LanguageModel
from rag.models.optimize import Precision, optimize
from rag.models.resolver import ResolvedModel, resolve
from rag.progress import Progress, Silent

SEQUENCES = 2
"""Sequences of a request: its own, and one that drafts or is contrasted with."""


def open_generator(
    name: str, settings: Settings, progress: Progress | None = None
) -> LanguageModel:
    """The language model `name`, run as `settings.backend` says, for any number of threads.

    `auto` on a CPU is int8, by loops of ours over weights that are packed at the first call; other
    devices and architectures that the loops do not know get torch. Raises `ModelError` when the
    model is not here or cannot be loaded, `Unsupported` for a precision asked for by name that its
    architecture cannot have.
    """
    return BatchedModel(_open(resolve(name, settings.cache), settings, progress or Silent()))


def precision_of(settings: Settings) -> Precision:
    """The precision that `settings.backend` means on a CPU."""
    match settings.backend:
        case "int8" | "int4" | "fp32":
            return settings.backend
    return "int8"


def _open(model: ResolvedModel, settings: Settings, progress: Progress) -> LanguageModel:
    if settings.backend == "torch" or (settings.backend == "auto" and settings.device != "cpu"):
        return _on_torch(model, settings)
    try:
        return _optimized(model, settings, progress)
    except Unsupported:
        if settings.backend != "auto":
            raise
        return _on_torch(model, settings)


def _optimized(model: ResolvedModel, settings: Settings, progress: Progress) -> LanguageModel:
    if settings.device != "cpu":
        raise Unsupported(f"the backend {settings.backend} runs on a CPU, not on {settings.device}")
    precision = precision_of(settings)
    optimized = optimize(model, settings.cache, precision, progress=progress)
    if precision == "int8":
        from rag.generate.compiled_model import load_compiled_model

        return load_compiled_model(
            model, optimized, n_threads=settings.n_threads, progress=progress
        )
    from rag.generate.onnx_model import load_onnx_model

    n_slots = SEQUENCES * settings.max_concurrency
    return load_onnx_model(model, optimized, n_threads=settings.n_threads, n_slots=n_slots)


def _on_torch(model: ResolvedModel, settings: Settings) -> LanguageModel:
    from rag.generate.torch_model import load_torch_model

    return load_torch_model(
        model.folder, name=model.name, device=settings.device, n_threads=settings.n_threads
    )
