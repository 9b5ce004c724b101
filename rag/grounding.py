"""Evidence → text that cites it: prompt, decode, cite. The last stages of every answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from indexes.errors import Cancelled, InvalidInput
from indexes.sentences import sentence_spans
from rag.answer import Citation, Decode, DecodeReport, Usage
from rag.cite import cite, clean_answer
from rag.generate.language_model import LanguageModel
from rag.search import Hit
from rag.staged import GroundedRequest, GroundedResponse, ShownText
from rag.stopwatch import Stopwatch

if TYPE_CHECKING:
    from rag.generate.drafting import DraftMemory
    from rag.generate.generator import Generator


class Grounded(msgspec.Struct, frozen=True):
    """A text with the places that bear it out. `truncated`: the model did not read all of it."""

    text: str
    citations: list[Citation]
    usage: Usage
    decode: DecodeReport
    truncated: bool
    warnings: list[str]


def write_grounded(
    model: LanguageModel,
    memory: DraftMemory,
    question: str,
    evidence: Sequence[Hit],
    shown: Sequence[Hit] | None,
    decode: Decode,
    watch: Stopwatch,
    *,
    cancel: threading.Event | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Grounded:
    """Answer from `shown`, the evidence itself if None; citations point into the evidence.

    `memory` drafts for this text and learns from it. Raises `Cancelled` and `DeadlineExceeded`
    from the decoding loop's step that saw them.
    """
    from rag.generate.drafting import Drafting
    from rag.generate.prompt import build_prompt, shown_texts
    from rag.generate.shown import Shown
    from rag.generate.writing import write

    read = evidence if shown is None else shown
    with watch.stage("prompt"):
        room = model.context_length - decode.max_tokens
        prompt = build_prompt(model.tokenizer, question, read, max_prompt_tokens=room)
        n_uncompressed = len(prompt.token_ids)
        if shown is not None:
            n_uncompressed = len(build_prompt(model.tokenizer, question, evidence, room).token_ids)
        short = _short_prompt(model, question, read, decode, room)
    with watch.stage("generate"):
        generation, report = write(
            model,
            prompt.token_ids,
            decode,
            Shown(
                shown_texts(model.tokenizer, read, prompt.kept_chars),
                question,
                lambda: build_prompt(model.tokenizer, question, [], room).token_ids,
            ),
            Drafting(memory, prompt_ids=short),
            cancel=cancel,
            deadline=watch.deadline,
            on_text=on_text,
        )
    if generation.finish_reason == "cancelled":
        raise Cancelled("the answer was cancelled")
    memory.answers.add(generation.token_ids)
    with watch.stage("cite"):
        text = clean_answer(generation.text)
        citations = cite(text, evidence, question=question)
    usage = Usage(
        prompt_tokens=n_uncompressed,
        compressed_tokens=len(prompt.token_ids),
        completion_tokens=len(generation.token_ids),
    )
    unsaid = unsupported(text, citations)
    return Grounded(text, citations, usage, report, prompt.truncated, unsaid)


def ground(
    request: GroundedRequest,
    generator: Callable[[], Generator],
    *,
    request_id: str = "",
    cancel: threading.Event | None = None,
) -> GroundedResponse:
    """The stage alone; nothing of it is remembered for other requests' drafts.

    Without evidence the model is not called. Raises `InvalidInput` for a `shown` that is not of
    this evidence.
    """
    watch = Stopwatch(request.timeout_ms)
    shown = None if request.shown is None else _cut(request.evidence, request.shown)
    if not request.evidence:
        report = DecodeReport(finish_reason="not_called")
        return GroundedResponse(request_id, "", Usage(), report, watch.total())
    with watch.stage("load"):
        opened = generator()
    memory = opened.fresh_memory()
    found = write_grounded(
        opened.model,
        memory,
        request.question,
        request.evidence,
        shown,
        request.decode,
        watch,
        cancel=cancel,
    )
    return GroundedResponse(
        request_id=request_id,
        text=found.text,
        usage=found.usage,
        decode=found.decode,
        timings_ms=watch.total(),
        warnings=found.warnings,
        citations=found.citations,
        truncated=found.truncated,
    )


def unsupported(answer: str, citations: Sequence[Citation]) -> list[str]:
    """A warning that names the sentences no citation covers; none when all are supported."""
    bare = [
        answer[start:end]
        for start, end in sentence_spans(answer)
        if not any(c.start < end and start < c.end for c in citations)
    ]
    return [f"not supported by the evidence: {sentence}" for sentence in bare]


def _cut(evidence: Sequence[Hit], shown: ShownText) -> list[Hit]:
    """The evidence with its texts as compression left them, without what nothing is left of."""
    if [hit.id for hit in evidence] != [hit.id for hit in shown.hits]:
        raise InvalidInput("what is shown is not of this evidence", "/shown/hits")
    texts = [shown.text[place.start : place.end] for place in shown.hits]
    return [
        msgspec.structs.replace(hit, text=text)
        for hit, text in zip(evidence, texts, strict=True)
        if text or (hit.title and not hit.text)
    ]


def _short_prompt(
    model: LanguageModel, question: str, evidence: Sequence[Hit], decode: Decode, room: int
) -> list[int]:
    """What rapid's drafter reads: the same question over the best sentences of the evidence."""
    if decode.drafter != "rapid":
        return []
    from rag.generate.prompt import build_prompt
    from rag.generate.short_context import short_evidence

    short = short_evidence(question, evidence)
    return build_prompt(model.tokenizer, question, short, max_prompt_tokens=room).token_ids
