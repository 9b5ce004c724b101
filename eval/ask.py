"""Ask the service many questions, one after the other, as a person would."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

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
    journals = {} if journal is None else {"": journal}
    return ask_each_way(service, {"": requests}, progress, journals=journals)[""]


def ask_each_way(
    service: Service,
    requests: Mapping[str, Mapping[str, AnswerRequest]],
    progress: Progress,
    choose: Callable[[str], None] = lambda _: None,
    journals: Mapping[str, Journal] = MappingProxyType({}),
) -> dict[str, Answered]:
    """Answer the same questions in several ways, `requests[way][question]`.

    A question is answered in all ways before the next one, each time beginning with another, so
    that what else the machine does weighs on all alike. `choose` is told which way is next. What a
    way's journal has is not asked again.
    """
    replies = {way: _kept(asked, journals.get(way)) for way, asked in requests.items()}
    n_kept = sum(map(len, replies.values()))
    if n_kept:
        progress.note(f"{n_kept} answers are there already")
    if n_kept < sum(map(len, requests.values())):
        _ask(service, requests, progress, choose, journals, replies)
    cold = [r.cold_start_ms for found in replies.values() for r in found.values()]
    cold_start_ms = next((value for value in cold if value is not None), 0.0)
    return {
        way: _answered({key: replies[way][key] for key in asked}, cold_start_ms)
        for way, asked in requests.items()
    }


class _Reply(NamedTuple):
    """`cold_start_ms` is that of a process whose first answer this was."""

    response: AnswerResponse
    cold_start_ms: float | None = None


def _kept(requests: Mapping[str, AnswerRequest], journal: Journal | None) -> dict[str, _Reply]:
    found = {} if journal is None else {key: journal.find(one) for key, one in requests.items()}
    return {
        key: _Reply(entry.response, entry.cold_start_ms)
        for key, entry in found.items()
        if entry is not None
    }


def _ask(
    service: Service,
    requests: Mapping[str, Mapping[str, AnswerRequest]],
    progress: Progress,
    choose: Callable[[str], None],
    journals: Mapping[str, Journal],
    replies: Mapping[str, dict[str, _Reply]],
) -> None:
    """Ask what has no reply yet, and keep it."""
    began = time.perf_counter()
    progress.note("loading the language model")
    service.generator()
    warm = False
    ways = list(requests)
    questions = list(requests[ways[0]])
    progress.start("answering", len(questions), "question")
    for number, key in enumerate(questions):
        turn = number % len(ways)
        for way in (*ways[turn:], *ways[:turn]):
            if key in replies[way]:
                continue
            choose(way)
            request = requests[way][key]
            response = service.answer(request)
            cold_ms = None if warm else (time.perf_counter() - began) * 1000
            warm = True
            replies[way][key] = _Reply(response, cold_ms)
            if way in journals:
                journals[way].add(request, response, cold_ms)
        progress.advance(1)
    progress.finish()


def _answered(replies: Mapping[str, _Reply], cold_start_ms: float) -> Answered:
    responses = {key: reply.response for key, reply in replies.items()}
    warm = [r.response.timings_ms for r in replies.values() if r.cold_start_ms is None]
    timings = warm or [response.timings_ms for response in responses.values()]
    return Answered(responses, cold_start_ms, by_stage(timings))


def token_counts(responses: Mapping[str, AnswerResponse]) -> dict[str, int]:
    """Tokens over all responses, in and out, and how many came without calling the model."""
    found = list(responses.values())
    return {
        "prompt_tokens": sum(response.usage.prompt_tokens for response in found),
        "compressed_tokens": sum(response.usage.compressed_tokens for response in found),
        "completion_tokens": sum(response.usage.completion_tokens for response in found),
        "n_no_evidence": sum(response.status == "no_evidence" for response in found),
    }
