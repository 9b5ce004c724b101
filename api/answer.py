"""`POST /v1/answer`: an answer whose every sentence points at its evidence."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Request, post

from api.backend import InjectedBackend, cancelled_on_disconnect
from api.body import read_body
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.request_id import request_id_of
from rag.answer import AnswerRequest, AnswerResponse

EXAMPLES = {
    "simple": {"index": "demo", "query": "Who discovered penicillin?"},
    "sampled": {
        "index": "demo",
        "query": "Who discovered penicillin?",
        "limit": 5,
        "decode": {"max_tokens": 64, "temperature": 0.7, "seed": 7},
        "timeout_ms": 30_000,
    },
}


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
            request=AnswerRequest,
            problems=BODY_PROBLEMS,
            examples=EXAMPLES,
        )
    ),
)
async def answer(request: Request[Any, Any, Any], backend: InjectedBackend) -> AnswerResponse:
    """Search, then answer from what was found."""
    asked = await read_body(request, AnswerRequest, backend.limits)
    request_id = request_id_of(request.scope)
    async with cancelled_on_disconnect(request.receive) as cancel:
        return await backend.compute(
            partial(backend.service.answer, asked, request_id=request_id, cancel=cancel)
        )
