"""A text for a prompt, in the mode that the request asks for, and the report of how."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from rag.answer import Decode, DecodeReport
from rag.generate.drafting import Drafting
from rag.generate.extracted import extracted
from rag.generate.language_model import LanguageModel
from rag.generate.loop import Generation, decode_report, generate
from rag.generate.mode import choose_mode
from rag.generate.monitors.vocabulary import SpelledTokenizer
from rag.generate.prefill import Watch
from rag.generate.shown import Shown
from rag.generate.steering import open_steering


class Written(NamedTuple):
    """What was written, and how."""

    generation: Generation
    report: DecodeReport


def write(
    model: LanguageModel,
    prompt_ids: Sequence[int],
    decode: Decode,
    shown: Shown,
    drafting: Drafting,
    *,
    cancel: threading.Event | None = None,
    deadline: float | None = None,
    on_text: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Written:
    """Decode after `prompt_ids`, or extract from what was shown.

    Raises what `rag.generate.loop.generate` and `rag.generate.steering.open_steering` raise.
    """
    mode = choose_mode(decode, shown)
    if decode.mode == "auto" and not isinstance(model.tokenizer, SpelledTokenizer):
        mode = "free"
    decode = msgspec.structs.replace(decode, mode=mode)
    if decode.mode == "extract":
        watch = Watch(cancel, deadline, clock)
        generation = extracted(model, prompt_ids, decode, shown, watch, drafting.memory.prefixes)
        if on_text is not None and generation.text:
            on_text(generation.text)
        return Written(generation, _extraction_report(generation))
    opened = open_steering(
        decode,
        model,
        shown,
        len(prompt_ids),
        prefixes=drafting.memory.prefixes,
        cancel=cancel,
        deadline=deadline,
        clock=clock,
    )
    generation = generate(
        model,
        prompt_ids,
        decode,
        steering=opened.steering,
        drafting=drafting,
        cancel=cancel,
        deadline=deadline,
        on_text=on_text,
        clock=clock,
    )
    report = decode_report(decode, generation)
    return Written(generation, opened.report(report, decode, len(generation.token_ids)))


def _extraction_report(generation: Generation) -> DecodeReport:
    return DecodeReport(
        mode="extract",
        finish_reason=generation.finish_reason,
        first_token_ms=generation.first_token_ms,
    )
