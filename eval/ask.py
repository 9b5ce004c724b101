"""Ask the service many questions, one after the other, as a person would."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from eval.batch_search import SearchPlan
from eval.latency import Latency, by_stage
from indexes.filters import Filter
from rag.answer import AnswerRequest, AnswerResponse, Decode
from rag.compress.compression import Compression
from rag.progress import Progress
from rag.service import Service

if TYPE_CHECKING:
    from eval.journal import Journal


class AnswerPlan(msgspec.Struct, frozen=True):
    """How to answer; `search.limit` is how many hits are shown to the model.

    With `compress` they are shown shortened, by what `eval.compressors` calls `compress_by`.
    """

    search: SearchPlan = SearchPlan(limit=3)
    decode: Decode = Decode()
    min_evidence: float | None = None
    compress: Compression | None = None
    compress_by: str = "auto"


class Answered(msgspec.Struct, frozen=True):
    """The responses by question, in the order asked.

    `cold_start_ms` is loading the model and the first answer, in a process that may have its
    libraries loaded; a process' first answer is not in `latency`, unless there are no others.
    """

    responses: dict[str, AnswerResponse]
    cold_start_ms: float
    latency: dict[str, Latency]


def answer_request(
    index: str, question: str, plan: AnswerPlan, chosen: Filter | None = None
) -> AnswerRequest:
    """The request for one question."""
    return AnswerRequest(
        index=index,
        query=question,
        limit=plan.search.limit,
        retrievers=plan.search.choices,
        fusion=plan.search.fusion,
        filter=chosen,
        compress=plan.compress,
        decode=plan.decode,
        min_evidence=plan.min_evidence,
    )


def ask_all(
    service: Service,
    requests: Mapping[str, AnswerRequest],
    progress: Progress,
    journal: Journal | None = None,
) -> Answered:
    """Answer every request, those that the journal has no answer to by asking, and keep them there.

    Raises what `Service.answer` raises.
    """
    found = {} if journal is None else {key: journal.find(one) for key, one in requests.items()}
    kept = {key: entry for key, entry in found.items() if entry is not None}
    responses = {key: entry.response for key, entry in kept.items()}
    cold_ms = {key: e.cold_start_ms for key, e in kept.items() if e.cold_start_ms is not None}
    left = {key: request for key, request in requests.items() if key not in kept}
    if kept:
        progress.note(f"{len(kept)} answers are there already")
    if left:
        asked, first_ms = _ask(service, left, progress, journal)
        responses |= asked
        cold_ms[next(iter(left))] = first_ms
    timings = {key: response.timings_ms for key, response in responses.items()}
    warm = [timing for key, timing in timings.items() if key not in cold_ms]
    return Answered(
        {key: responses[key] for key in requests},
        next(iter(cold_ms.values()), 0.0),
        by_stage(warm or timings.values()),
    )


def _ask(
    service: Service,
    requests: Mapping[str, AnswerRequest],
    progress: Progress,
    journal: Journal | None,
) -> tuple[dict[str, AnswerResponse], float]:
    """The responses, and milliseconds to load the model and answer the first request."""
    began = time.perf_counter()
    progress.note("loading the language model")
    service.generator()
    first_ms = None
    responses: dict[str, AnswerResponse] = {}
    progress.start("answering", len(requests), "question")
    for key, request in requests.items():
        responses[key] = service.answer(request)
        cold_ms = None
        if first_ms is None:
            cold_ms = first_ms = (time.perf_counter() - began) * 1000
        if journal is not None:
            journal.add(request, responses[key], cold_ms)
        progress.advance(1)
    progress.finish()
    return responses, first_ms or 0.0


def token_counts(responses: Mapping[str, AnswerResponse]) -> dict[str, int]:
    """Tokens over all responses, in and out, and how many came without calling the model."""
    found = list(responses.values())
    return {
        "prompt_tokens": sum(response.usage.prompt_tokens for response in found),
        "compressed_tokens": sum(response.usage.compressed_tokens for response in found),
        "completion_tokens": sum(response.usage.completion_tokens for response in found),
        "n_no_evidence": sum(response.status == "no_evidence" for response in found),
    }
