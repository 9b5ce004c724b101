"""`POST /v1/answer`: an answer whose every sentence points at its evidence, whole or streamed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.response import Stream

from api.backend import Backend, InjectedBackend
from api.body import read_body
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.event_stream import HEADERS, MEDIA_TYPE, Event, EventQueue, first_event, stream
from api.problem import problem_of
from api.request_id import request_id_of
from rag.answer import AnswerRequest, AnswerResponse
from rag.search import Hit

EXAMPLES = {
    "simple": {"index": "demo", "query": "Who discovered penicillin?"},
    "sampled": {
        "index": "demo",
        "query": "Who discovered penicillin?",
        "limit": 5,
        "decode": {"max_tokens": 64, "temperature": 0.7, "seed": 7},
        "timeout_ms": 30_000,
    },
    "streamed": {"index": "demo", "query": "Who discovered penicillin?", "stream": True},
}


class AnswerBody(AnswerRequest, frozen=True, forbid_unknown_fields=True):
    """A question for an index. `limit` is how many hits are shown to the model.

    With `stream` the reply is `text/event-stream`: `evidence`, `token`s (each says whether it was
    drafted), `citation`s, and at last one `done` with the whole answer, or one `error` with a
    problem.
    """

    stream: bool = False


@post(
    ["/v1/answer", "/answer"],
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Answer a question from an index, with citations",
            description="Without evidence the status is `no_evidence` and no model is called. "
            "Decoding stops when the client goes away.",
            response=AnswerResponse,
            tag="generation",
            request=AnswerBody,
            problems=BODY_PROBLEMS,
            examples=EXAMPLES,
            events=("evidence", "token", "citation", "done", "error"),
        )
    ),
)
async def answer(
    request: Request[Any, Any, Any], backend: InjectedBackend
) -> Response[AnswerResponse] | Stream:
    """Search, then answer from what was found."""
    asked = await read_body(request, AnswerBody, backend.limits)
    if asked.stream:
        return await _streamed(request, backend, asked)
    request_id = request_id_of(request.scope)
    async with backend.cancelled_on_disconnect(request.receive) as cancel:
        work = partial(backend.service.answer, asked, request_id=request_id, cancel=cancel)
        return Response(await backend.write(work, asked.timeout_ms))


async def _streamed(request: Request[Any, Any, Any], backend: Backend, asked: AnswerBody) -> Stream:
    queue, cancel = EventQueue(), backend.new_cancel()
    request_id = request_id_of(request.scope)

    def tell(hits: list[Hit]) -> None:
        queue.put("evidence", {"request_id": request_id, "evidence": hits})

    def tell_token(text: str) -> None:
        queue.put("token", {"text": str(text), "drafted": getattr(text, "drafted", False)})

    work = asyncio.create_task(
        backend.write(
            partial(
                backend.service.answer,
                asked,
                request_id=request_id,
                cancel=cancel,
                on_evidence=tell,
                on_text=tell_token,
            ),
            asked.timeout_ms,
        )
    )
    try:
        first = await first_event(queue, work)
    except BaseException:
        cancel.set()
        raise

    def last(done: asyncio.Task[AnswerResponse]) -> list[Event]:
        error = done.exception()
        if error is not None:
            return [Event("error", problem_of(request, error))]
        response = done.result()
        citations = [Event("citation", msgspec.to_builtins(c)) for c in response.citations]
        return [*citations, Event("done", response)]

    events = stream(first, queue, work, last, cancel)
    return Stream(events, media_type=MEDIA_TYPE, headers=HEADERS)
