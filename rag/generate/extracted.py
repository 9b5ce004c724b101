"""Extraction as a way to write: prompt in, a stretch of the evidence out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.generate.distribution import is_greedy
from rag.generate.extract import Extractor
from rag.generate.language_model import LanguageModel
from rag.generate.loop import Generation
from rag.generate.monitors.vocabulary import vocabulary_of
from rag.generate.prefill import Watch, feed
from rag.generate.prefix_cache import PrefixCache
from rag.generate.shown import Shown
from rag.generate.spans import SpanTrie

MAX_SPAN_TOKENS = 48
"""No stretch that is extracted is longer."""


def extracted(
    model: LanguageModel,
    prompt_ids: Sequence[int],
    decode: Decode,
    shown: Shown,
    watch: Watch,
    prefixes: PrefixCache | None = None,
) -> Generation:
    """The stretch of `shown` that the model most probably answers with, and nothing more.

    The finish reason is length when the search was cut short, so that a better one may exist; no
    text is extracted when cancelled, or from evidence without words. Raises `InvalidInput` for
    options that contradict, `Unsupported` for a model whose tokens' bytes are not known.
    """
    _check(decode, shown)
    room = model.context_length - len(prompt_ids)
    if not prompt_ids or room < 0:
        raise InvalidInput(f"a prompt has 1 to {model.context_length} tokens")
    started = watch.clock()
    trie = vocabulary_of(model).trie
    longest = max(1, min(decode.max_tokens, MAX_SPAN_TOKENS, room))
    spans = SpanTrie(shown.texts, model.tokenizer, trie, longest)
    context = prefixes.open(prompt_ids) if prefixes else model.open_context()
    logits = feed(context, prompt_ids[context.position :], watch)
    nothing = Generation([], "", "cancelled", len(prompt_ids), 0, None, None)
    if logits is None:
        return nothing
    if prefixes is not None:
        prefixes.keep(context, prompt_ids)
    found = Extractor(context, logits, spans, model.eos_ids, watch).best()
    if found is None:
        reason = "cancelled" if watch.cancelled() else "stop"
        return msgspec.structs.replace(nothing, finish_reason=reason)
    return Generation(
        token_ids=found.token_ids,
        text=shown.texts[found.span.text][found.span.start : found.span.end],
        finish_reason="stop" if found.is_best else "length",
        prompt_tokens=len(prompt_ids),
        completion_tokens=len(found.token_ids),
        first_token_ms=(watch.clock() - started) * 1000,
        tokens_per_s=None,
        n_rounds=found.n_forwards,
    )


def _check(decode: Decode, shown: Shown) -> None:
    """What is the best stretch by definition, nothing else can bend."""
    if not is_greedy(decode):
        raise InvalidInput("to extract is a greedy rule: the temperature is 0", "/decode/mode")
    if decode.faithful != "off" or decode.monitors or decode.grammar is not None:
        raise InvalidInput(
            "a stretch of the evidence takes no faithful rule, monitor or grammar", "/decode/mode"
        )
    if shown.is_empty:
        raise InvalidInput("there is no evidence, or context, to extract from", "/decode/mode")
