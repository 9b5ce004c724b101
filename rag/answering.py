"""Evidence → a cited answer: weigh the evidence, prompt, decode, cite."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from indexes.snapshot import Snapshot
from rag.answer import AnswerRequest, AnswerResponse, Citation, DecodeReport, Usage
from rag.evidence import evidence_strengths, strong_enough
from rag.generate.language_model import LanguageModel
from rag.grounding import write_grounded
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
    with watch.stage("load"):
        opened = generator()
    memory = opened.memory(snapshot.manifest.name)
    shown, said = _shown(request, evidence, opened.model, compressor, watch)
    written = write_grounded(
        opened.model,
        memory,
        request.query,
        evidence,
        shown,
        request.decode,
        watch,
        cancel=cancel,
        on_text=on_text,
    )
    return _response(
        request,
        snapshot,
        watch,
        [*warnings, *said, *written.warnings],
        request_id,
        evidence,
        answer=written.text,
        citations=written.citations,
        usage=written.usage,
        report=written.decode,
        truncated=written.truncated or bool(ranked.truncated),
    )


def _shown(
    request: AnswerRequest,
    evidence: list[Hit],
    model: LanguageModel,
    compressor: Callable[[], Compressor],
    watch: Stopwatch,
) -> tuple[list[Hit] | None, list[str]]:
    """The evidence as the model reads it, None for as it is; what should be known about that."""
    if request.compress is None:
        return None, []
    from rag.compress.stage import shorten

    with watch.stage("load"):
        opened = compressor()
    with watch.stage("compress"):
        return shorten(opened, request.query, evidence, request.compress, model.tokenizer)


def threshold_of(min_evidence: float | None) -> float:
    """The strength that a request asks of evidence."""
    return MIN_EVIDENCE if min_evidence is None else min_evidence


def _strong(
    request: AnswerRequest, snapshot: Snapshot, ranked: RankedQuery, hits: Sequence[Hit]
) -> list[Hit]:
    rows = [candidate.row for candidate in ranked.candidates[: len(hits)]]
    strengths = evidence_strengths(snapshot, ranked.vectors, rows)
    return strong_enough(hits, strengths, threshold_of(request.min_evidence))


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
