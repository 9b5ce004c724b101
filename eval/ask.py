"""Ask the service many questions, one after the other, as a person would."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec

from eval.batch_search import SearchPlan
from eval.latency import Latency, by_stage
from indexes.filters import Filter
from rag.answer import AnswerRequest, AnswerResponse, Decode
from rag.compress.compression import Compression
from rag.progress import Progress
from rag.service import Service


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
    libraries loaded; the first answer is not in `latency`, unless it is the only one.
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
    service: Service, requests: Mapping[str, AnswerRequest], progress: Progress
) -> Answered:
    """Answer every request. Raises what `Service.answer` raises."""
    return ask_each_way(service, {"": requests}, progress)[""]


def ask_each_way(
    service: Service,
    requests: Mapping[str, Mapping[str, AnswerRequest]],
    progress: Progress,
    choose: Callable[[str], None] = lambda _: None,
) -> dict[str, Answered]:
    """Answer the same questions in several ways, `requests[way][question]`.

    A question is answered in all ways before the next one, each time beginning with another, so
    that what else the machine does weighs on all alike. `choose` is told which way is next.
    """
    began = time.perf_counter()
    progress.note("loading the language model")
    service.generator()
    cold_start_ms = 0.0
    ways = list(requests)
    responses: dict[str, dict[str, AnswerResponse]] = {way: {} for way in ways}
    questions = list(requests[ways[0]])
    progress.start("answering", len(questions), "question")
    for number, key in enumerate(questions):
        turn = number % len(ways)
        for way in (*ways[turn:], *ways[:turn]):
            choose(way)
            responses[way][key] = service.answer(requests[way][key])
            cold_start_ms = cold_start_ms or (time.perf_counter() - began) * 1000
        progress.advance(1)
    progress.finish()
    return {way: _answered(found, cold_start_ms) for way, found in responses.items()}


def _answered(responses: dict[str, AnswerResponse], cold_start_ms: float) -> Answered:
    timings = [response.timings_ms for response in responses.values()]
    return Answered(responses, cold_start_ms, by_stage(timings[1:] or timings))


def token_counts(responses: Mapping[str, AnswerResponse]) -> dict[str, int]:
    """Tokens over all responses, in and out, and how many came without calling the model."""
    found = list(responses.values())
    return {
        "prompt_tokens": sum(response.usage.prompt_tokens for response in found),
        "compressed_tokens": sum(response.usage.compressed_tokens for response in found),
        "completion_tokens": sum(response.usage.completion_tokens for response in found),
        "n_no_evidence": sum(response.status == "no_evidence" for response in found),
    }
