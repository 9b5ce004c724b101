"""Opening the compressor that the settings name."""

from __future__ import annotations

from rag.compress.compressor import Compressor
from rag.config import Settings
from rag.models.resolver import resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress


def open_compressor(settings: Settings, progress: Progress | None = None) -> Compressor:
    """The compressor with its token classifier; without one where `settings.compressor` is none.

    Raises `ModelNotFound`, `ModelError` and `UnsafeModel` for a model that cannot be had or used.
    """
    if settings.compressor == "none":
        return Compressor()
    from rag.compress.token_classifier import TokenClassifier

    use_threads(settings.n_threads)
    model = resolve(settings.compressor, settings.cache, download=True, progress=progress)
    return Compressor(
        TokenClassifier(
            model,
            cache=settings.cache,
            device=settings.device,
            batch_tokens=settings.encode_batch_tokens,
        )
    )
