"""Opening the locator that the settings name."""

from __future__ import annotations

from rag.config import Settings
from rag.gear.locator import Locator, open_locator
from rag.models.resolver import resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress


def locator_of(
    settings: Settings, progress: Progress | None = None, *, download: bool = True
) -> Locator:
    """The locator, loaded; what it is made upon is pulled first where it may `download`.

    Raises `ModelNotFound`, `ModelError` and `UnsafeModel` for a model that cannot be had or used.
    """
    use_threads(settings.n_threads)
    return open_locator(
        resolve(settings.locator, settings.cache, download=download, progress=progress),
        settings.cache,
        device=settings.device,
        batch_tokens=settings.encode_batch_tokens,
    )
