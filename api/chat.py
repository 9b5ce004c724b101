"""`POST /v1/chat/completions`: answers from an index, for clients that speak OpenAI's protocol."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.response import Stream

from api.backend import Backend, InjectedBackend
from api.body import read_body
from api.chat_completion import (
    NO_EVIDENCE,
    ChatCompletion,
    ChatRequest,
    completion_of,
    finish_reason_of,
    grounds_of,
    question_of,
    usage_of,
)
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.event_stream import HEADERS, MEDIA_TYPE, UNNAMED, Event, EventQueue, first_event, stream
from api.problem import problem_of
from api.request_id import request_id_of
from rag.answer import AnswerResponse
from rag.search import Hit

EXAMPLES = {
    "simple": {
        "model": "demo",
        "messages": [{"role": "user", "content": "Who discovered penicillin?"}],
    },
    "extended": {
        "model": "demo",
        "messages": [{"role": "user", "content": "Who discovered penicillin?"}],
        "max_completion_tokens": 64,
        "stream": True,
        "evident": {"limit": 5, "compress": {"rate": 0.5}},
    },
}
DONE = "[DONE]"


@post(
    "/v1/chat/completions",
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Answer a chat's last message from an index",
            description="OpenAI's protocol: `model` names the index, `evident` in the request has "
            "the options of `/v1/answer`, in the reply the evidence and the citations. With "
            "`stream` the reply is OpenAI's chunks, the last of which has `evident`.",
            response=ChatCompletion,
            tag="generation",
            request=ChatRequest,
            problems=BODY_PROBLEMS,
            examples=EXAMPLES,
            events=(UNNAMED,),
        )
    ),
)
async def chat(
    request: Request[Any, Any, Any], backend: InjectedBackend
) -> Response[ChatCompletion] | Stream:
    """The same pipeline as `/v1/answer`."""
    asked = await read_body(request, ChatRequest, backend.limits)
    question = question_of(asked)
    request_id = request_id_of(request.scope)
    work = partial(backend.service.answer, question, request_id=request_id)
    if asked.stream:
        return await _streamed(request, backend, asked, work, question.timeout_ms)
    async with backend.cancelled_on_disconnect(request.receive) as cancel:
        answered = await backend.write(partial(work, cancel=cancel), question.timeout_ms)
        return Response(completion_of(asked, answered))


async def _streamed(
    request: Request[Any, Any, Any],
    backend: Backend,
    asked: ChatRequest,
    work: partial[AnswerResponse],
    timeout_ms: int | None,
) -> Stream:
    queue, cancel = EventQueue(), backend.new_cancel()
    head = {
        "id": f"chatcmpl-{request_id_of(request.scope)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": asked.model,
    }

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return head | {"choices": [choice]} | more

    def begin(_: list[Hit]) -> None:
        queue.put(UNNAMED, chunk({"role": "assistant", "content": ""}))

    def last(done: asyncio.Task[AnswerResponse]) -> list[Event]:
        error = done.exception()
        if error is not None:
            problem = problem_of(request, error)
            told = {"message": problem.detail, "type": problem.type, "code": problem.status}
            return [Event(UNNAMED, {"error": told})]
        answer = done.result()
        delta = {"refusal": NO_EVIDENCE} if answer.status == "no_evidence" else {}
        grounds = grounds_of(asked, answer)
        chunks: list[Any] = [chunk(delta, finish_reason_of(answer), evident=grounds)]
        if asked.stream_options is not None and asked.stream_options.include_usage:
            chunks.append(head | {"choices": [], "usage": usage_of(answer)})
        return [Event(UNNAMED, data) for data in (*chunks, DONE)]

    task = asyncio.create_task(
        backend.write(
            partial(
                work,
                cancel=cancel,
                on_evidence=begin,
                on_text=lambda text: queue.put(UNNAMED, chunk({"content": str(text)})),
            ),
            timeout_ms,
        )
    )
    try:
        first = await first_event(queue, task)
    except BaseException:
        cancel.set()
        raise
    chunks = stream(first, queue, task, last, cancel, encode=_on_the_wire)
    return Stream(chunks, media_type=MEDIA_TYPE, headers=HEADERS)


def _on_the_wire(_: int, event: Event) -> bytes:
    """A chunk as OpenAI sends it: nameless and unnumbered; the end is no JSON."""
    data = DONE.encode() if event.data == DONE else msgspec.json.encode(event.data)
    return b"data: " + data + b"\n\n"
