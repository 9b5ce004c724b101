"""Prompt → text: the decoding stage alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from indexes.errors import InvalidInput
from rag.answer import Decode, DecodeReport, Usage
from rag.stopwatch import Stopwatch

if TYPE_CHECKING:
    from rag.generate.drafting import DraftMemory
    from rag.generate.language_model import LanguageModel, Tokenizer

MAX_TEXT_CHARS = 4_000_000


class GenerateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt, as the user's turn of a chat unless `raw`; `context` stands before it.

    With the drafter rapid the target reads all of `context`, the drafter its best stretches. The
    context is the evidence that `decode.faithful` and `decode.monitors` hold the text to.
    """

    prompt: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS)]
    context: Annotated[str, Meta(max_length=MAX_TEXT_CHARS)] = ""
    raw: bool = False
    decode: Decode = Decode()
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] | None = None


class GenerateResponse(msgspec.Struct, frozen=True):
    """What was written, and how."""

    request_id: str
    text: str
    usage: Usage
    decode: DecodeReport
    timings_ms: dict[str, float] = {}
    warnings: list[str] = []


def generate_text(
    model: LanguageModel,
    request: GenerateRequest,
    *,
    request_id: str = "",
    memory: DraftMemory | None = None,
    draft_model: LanguageModel | None = None,
    cancel: threading.Event | None = None,
    on_text: Callable[[str], None] | None = None,
) -> GenerateResponse:
    """Decode one prompt. `draft_model` drafts for rapid; None: the model itself.

    Raises `InvalidInput` for a prompt that is blank or does not fit, and for options that
    contradict; `DeadlineExceeded`. When cancelled it returns what there is.
    """
    from rag.generate.drafting import Drafting, DraftMemory
    from rag.generate.short_context import short_text
    from rag.generate.shown import Shown
    from rag.generate.writing import write

    if not request.prompt.strip():
        raise InvalidInput("the prompt is blank", "/prompt")
    watch = Stopwatch(request.timeout_ms)
    memory = memory or DraftMemory()
    short: list[int] = []
    with watch.stage("prompt"):
        if request.decode.drafter == "rapid":
            if not request.context.strip():
                raise InvalidInput("rapid needs a context to read shortened", "/context")
            short = _prompt(model.tokenizer, request, short_text(request.prompt, request.context))
        prompt_ids = _prompt(model.tokenizer, request, request.context)
    shown = Shown([request.context], request.prompt, partial(_prompt, model.tokenizer, request, ""))
    with watch.stage("generate"):
        generation, report = write(
            model,
            prompt_ids,
            request.decode,
            shown,
            Drafting(memory, draft_model, short),
            cancel=cancel,
            deadline=watch.deadline,
            on_text=on_text,
        )
    memory.answers.add(generation.token_ids)
    usage = Usage(
        prompt_tokens=len(prompt_ids),
        compressed_tokens=len(prompt_ids),
        completion_tokens=len(generation.token_ids),
    )
    return GenerateResponse(
        request_id=request_id,
        text=generation.text,
        usage=usage,
        decode=report,
        timings_ms=watch.total(),
    )


def _prompt(tokenizer: Tokenizer, request: GenerateRequest, context: str) -> list[int]:
    text = f"{context}\n\n{request.prompt}" if context else request.prompt
    return tokenizer.encode(text) if request.raw else tokenizer.chat([("user", text)])
