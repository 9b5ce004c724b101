"""What a request bends the model's distribution with, opened for one text, and what it did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from indexes.errors import InvalidInput
from rag.answer import Decode, DecodeReport
from rag.generate.constraint import Constraint
from rag.generate.contrast import ContextAware, EvidenceBonus
from rag.generate.distribution import Contrast, Steering, is_greedy
from rag.generate.faithful import Faithful, parse_faithful
from rag.generate.language_model import LanguageModel
from rag.generate.momentum import Momentum
from rag.generate.monitors.catalogue import open_monitor
from rag.generate.monitors.grammar import GrammarMonitor
from rag.generate.monitors.together import Together
from rag.generate.monitors.vocabulary import vocabulary_of
from rag.generate.null_branch import NullBranch
from rag.generate.prefill import Watch
from rag.generate.prefix_cache import PrefixCache
from rag.generate.question_words import QuestionWords
from rag.generate.shown import Shown


class Opened:
    """One text's steering. It is a state of its own: never shared between requests."""

    def __init__(
        self,
        faithful: Faithful,
        contrast: ContextAware | EvidenceBonus | None,
        monitors: Together | None,
        steering: Steering,
    ) -> None:
        self.steering = steering
        self._monitors = monitors
        self._faithful = faithful
        self._contrast = contrast

    def report(self, report: DecodeReport, decode: Decode, n_tokens: int) -> DecodeReport:
        """`report`, with what bent the first `n_tokens` generated tokens."""
        alphas: list[float] = []
        if isinstance(self._contrast, ContextAware):
            alphas = self._contrast.alphas(n_tokens)
        return msgspec.structs.replace(
            report,
            mode="momentum" if decode.mode == "momentum" else "free",
            faithful=self._faithful.rule,
            contrast_alpha=sum(alphas) / len(alphas) if alphas else None,
            contrast_alphas=alphas if decode.trace else [],
            monitors=[*decode.monitors, *(["grammar"] if decode.grammar else [])],
            masked=self._monitors.n_masked(n_tokens) if self._monitors else 0,
            suggestions=self._monitors.n_suggested(n_tokens) if self._monitors else 0,
        )


def open_steering(
    decode: Decode,
    model: LanguageModel,
    shown: Shown,
    n_prompt: int,
    *,
    prefixes: PrefixCache | None = None,
    cancel: threading.Event | None = None,
    deadline: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Opened:
    """The steering that `decode` asks for, over a prompt of `n_prompt` tokens.

    Raises `InvalidInput` for a rule, monitor or grammar that cannot be read, or that needs evidence
    where none is, and `Unsupported` for a model whose tokens cannot be monitored.
    """
    faithful = parse_faithful(decode.faithful)
    watch = Watch(cancel, deadline, clock)
    contrast = _contrast(faithful, model, shown, n_prompt, prefixes, watch)
    bent: Contrast | None = contrast
    if decode.mode == "momentum":
        if not is_greedy(decode):
            raise InvalidInput("momentum is a greedy rule: the temperature is 0", "/decode/mode")
        bent = Momentum(contrast)
    monitors = _monitors(decode, model, shown)
    beside = contrast.null if isinstance(contrast, ContextAware) else None
    steering = Steering(bent, (monitors,) if monitors else (), decode.plausibility, beside)
    return Opened(faithful, contrast, monitors, steering)


def _monitors(decode: Decode, model: LanguageModel, shown: Shown) -> Together | None:
    """The grammar first: a text that is none of its language is worth nothing."""
    if decode.grammar is None and not decode.monitors:
        return None
    vocabulary = vocabulary_of(model)
    found: list[Constraint] = []
    if decode.grammar is not None:
        found.append(GrammarMonitor(decode.grammar, model))
    found += [open_monitor(name, shown, vocabulary) for name in dict.fromkeys(decode.monitors)]
    return Together(found)


def _contrast(
    faithful: Faithful,
    model: LanguageModel,
    shown: Shown,
    n_prompt: int,
    prefixes: PrefixCache | None,
    watch: Watch,
) -> ContextAware | EvidenceBonus | None:
    if faithful.rule == "off":
        return None
    if shown.is_empty:
        raise InvalidInput(
            f"{faithful.rule} needs evidence, or a context, to be faithful to", "/decode/faithful"
        )
    if faithful.rule == "cfb":
        token_ids = {id_ for text in shown.texts for id_ in model.tokenizer.encode(text)}
        return EvidenceBonus(faithful.bonus, token_ids, model.eos_ids)
    null_ids = shown.null_prompt()
    if len(null_ids) > n_prompt:
        # It must never be the one that runs out of the context's length.
        raise InvalidInput("the prompt is no shorter without its evidence", "/decode/faithful")
    spared = QuestionWords(shown.question, model.tokenizer) if faithful.spare else None
    return ContextAware(faithful, NullBranch(model, null_ids, watch, prefixes), spared)
