"""Evidence → a cited answer: weigh the evidence, prompt, decode, cite."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from indexes.errors import Cancelled
from indexes.sentences import sentence_spans
from indexes.snapshot import Snapshot
from rag.answer import AnswerRequest, AnswerResponse, Citation, DecodeReport, Usage
from rag.cite import cite, clean_answer
from rag.evidence import evidence_strengths
from rag.generate.language_model import LanguageModel
from rag.ranking import RankedQuery
from rag.search import Hit
from rag.stopwatch import Stopwatch

if TYPE_CHECKING:
    from rag.compress.compressor import Compressor
    from rag.generate.generator import Generator

MIN_EVIDENCE = 0.35
"""Default strength below which a hit is no evidence; how it was chosen: README, "No evidence"."""


def answer_from(
    request: AnswerRequest,
    snapshot: Snapshot,
    ranked: RankedQuery,
    hits: Sequence[Hit],
    generator: Callable[[], Generator],
    compressor: Callable[[], Compressor],
    watch: Stopwatch,
    warnings: list[str],
    *,
    request_id: str,
    cancel: threading.Event | None,
    on_text: Callable[[str], None] | None,
    on_evidence: Callable[[list[Hit]], None] | None = None,
) -> AnswerResponse:
    """Answer from the hits that are strong enough; with none of them the model is not called.

    `on_evidence` is told which those are before anything is written.
    The generator's memory of the index drafts for this answer and learns from it.
    Raises `Cancelled` and `DeadlineExceeded` from the decoding loop's step that saw them.
    """
    with watch.stage("evidence"):
        evidence = _strong(request, snapshot, ranked, hits)
    if on_evidence is not None:
        on_evidence(evidence)
    if not evidence:
        return _response(request, snapshot, watch, warnings, request_id, [])
    from rag.generate.drafting import Drafting
    from rag.generate.prompt import build_prompt, shown_texts
    from rag.generate.shown import Shown
    from rag.generate.writing import write

    with watch.stage("load"):
        opened = generator()
    model, memory = opened.model, opened.memory(snapshot.manifest.name)
    shown, said = _shown(request, evidence, model, compressor, watch)
    with watch.stage("prompt"):
        room = model.context_length - request.decode.max_tokens
        prompt = build_prompt(model.tokenizer, request.query, shown, max_prompt_tokens=room)
        n_uncompressed = len(prompt.token_ids)
        if request.compress is not None:
            n_uncompressed = len(
                build_prompt(model.tokenizer, request.query, evidence, room).token_ids
            )
        short = _short_prompt(request, model, shown, room)
    with watch.stage("generate"):
        generation, report = write(
            model,
            prompt.token_ids,
            request.decode,
            Shown(
                shown_texts(model.tokenizer, shown, prompt.kept_chars),
                request.query,
                lambda: build_prompt(model.tokenizer, request.query, [], room).token_ids,
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
        answer = clean_answer(generation.text)
        citations = cite(answer, evidence, question=request.query)
        warnings = [*warnings, *said, *unsupported(answer, citations)]
    usage = Usage(
        prompt_tokens=n_uncompressed,
        compressed_tokens=len(prompt.token_ids),
        completion_tokens=len(generation.token_ids),
    )
    return _response(
        request,
        snapshot,
        watch,
        warnings,
        request_id,
        evidence,
        answer=answer,
        citations=citations,
        usage=usage,
        report=report,
        truncated=prompt.truncated or bool(ranked.truncated),
    )


def unsupported(answer: str, citations: Sequence[Citation]) -> list[str]:
    """A warning that names the sentences no citation covers; none when all are supported."""
    bare = [
        answer[start:end]
        for start, end in sentence_spans(answer)
        if not any(c.start < end and start < c.end for c in citations)
    ]
    return [f"not supported by the evidence: {sentence}" for sentence in bare]


def _shown(
    request: AnswerRequest,
    evidence: list[Hit],
    model: LanguageModel,
    compressor: Callable[[], Compressor],
    watch: Stopwatch,
) -> tuple[list[Hit], list[str]]:
    """The evidence as the model reads it, and what a person should know about that."""
    if request.compress is None:
        return evidence, []
    from rag.compress.stage import shorten

    with watch.stage("load"):
        opened = compressor()
    with watch.stage("compress"):
        return shorten(opened, request.query, evidence, request.compress, model.tokenizer)


def _short_prompt(
    request: AnswerRequest, model: LanguageModel, evidence: Sequence[Hit], room: int
) -> list[int]:
    """What rapid's drafter reads: the same question over the best sentences of the evidence."""
    if request.decode.drafter != "rapid":
        return []
    from rag.generate.prompt import build_prompt
    from rag.generate.short_context import short_evidence

    short = short_evidence(request.query, evidence)
    prompt = build_prompt(model.tokenizer, request.query, short, max_prompt_tokens=room)
    return prompt.token_ids


def _strong(
    request: AnswerRequest, snapshot: Snapshot, ranked: RankedQuery, hits: Sequence[Hit]
) -> list[Hit]:
    threshold = MIN_EVIDENCE if request.min_evidence is None else request.min_evidence
    rows = [candidate.row for candidate in ranked.candidates[: len(hits)]]
    strengths = evidence_strengths(snapshot, ranked.vectors, rows)
    return [hit for hit, strength in zip(hits, strengths, strict=True) if strength >= threshold]


def _response(
    request: AnswerRequest,
    snapshot: Snapshot,
    watch: Stopwatch,
    warnings: list[str],
    request_id: str,
    evidence: list[Hit],
    *,
    answer: str = "",
    citations: list[Citation] | None = None,
    usage: Usage | None = None,
    report: DecodeReport | None = None,
    truncated: bool = False,
) -> AnswerResponse:
    return AnswerResponse(
        request_id=request_id,
        index=request.index,
        index_version=snapshot.manifest.version,
        status="ok" if evidence else "no_evidence",
        answer=answer,
        citations=citations or [],
        evidence=evidence,
        usage=usage or Usage(),
        decode=report or DecodeReport(finish_reason="not_called"),
        timings_ms=watch.total(),
        truncated=truncated,
        warnings=warnings,
    )
