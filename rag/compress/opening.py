"""Opening the compressor that the settings name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from indexes.errors import UsageError
from rag.compress.compressor import Compressor
from rag.compress.sentence_scorer import DenseSentences, LocatedSentences, SentenceScorer
from rag.compress.word_scorer import WordScorer
from rag.config import Settings
from rag.models.resolver import resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress, Silent

if TYPE_CHECKING:
    from rag.gear.locator import Locator


def open_compressor(
    settings: Settings,
    progress: Progress | None = None,
    locator: Callable[[], Locator] | None = None,
    *,
    download: bool = True,
) -> Compressor:
    """The compressor with the models of the settings: `compressor` and `sentence_scorer`, or none.

    `locator` gives the one that is open already; without it one of its own is opened when needed.
    Models that are not in the cache are pulled first where it may `download`.
    Raises `ModelNotFound`, `ModelError` and `UnsafeModel` for a model that cannot be had or used,
    `UsageError` for a sentence scorer that is no dense retriever.
    """
    progress = progress or Silent()
    classifier = _classifier(settings, progress, download=download)
    return Compressor(classifier, _sentences(settings, progress, locator))


def _classifier(settings: Settings, progress: Progress, *, download: bool) -> WordScorer | None:
    if settings.compressor == "none":
        return None
    from rag.compress.token_classifier import TokenClassifier

    use_threads(settings.n_threads)
    model = resolve(settings.compressor, settings.cache, download=download, progress=progress)
    return TokenClassifier(
        model,
        cache=settings.cache,
        device=settings.device,
        batch_tokens=settings.encode_batch_tokens,
        precision=settings.encode_precision,
    )


def _sentences(
    settings: Settings, progress: Progress, locator: Callable[[], Locator] | None
) -> SentenceScorer | None:
    if settings.sentence_scorer == "none":
        return None
    if settings.sentence_scorer == LocatedSentences.name:
        from rag.gear.opening import locator_of

        return LocatedSentences(locator or functools.cache(lambda: locator_of(settings, progress)))
    from indexes.analyzer import Analyzer
    from rag.retrievers.opening import entry_of, open_retriever
    from rag.retrievers.retriever import parse_spec

    entry = entry_of(parse_spec(settings.sentence_scorer), settings, progress)
    if entry.kind != "dense":
        raise UsageError(f"sentence_scorer: {settings.sentence_scorer} is no dense retriever")
    return DenseSentences(open_retriever(entry, Analyzer(), settings))
