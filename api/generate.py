"""`POST /v1/generate`: the decoding stage alone."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Request, post

from api.backend import InjectedBackend, cancelled_on_disconnect
from api.body import read_body
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.request_id import request_id_of
from rag.generating import GenerateRequest, GenerateResponse

EXAMPLES = {
    "simple": {"prompt": "Name three primary colours.", "decode": {"max_tokens": 32}},
    "rapid": {
        "context": "The Eiffel Tower was completed in 1889. It stands in Paris.",
        "prompt": "When was the tower completed?",
        "decode": {"max_tokens": 32, "drafter": "rapid"},
    },
}


@post(
    "/v1/generate",
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Continue a prompt",
            description="No index is involved and nothing is cited. Decoding stops when the client "
            "goes away.",
            response=GenerateResponse,
            tag="generation",
            request=GenerateRequest,
            problems=tuple(status for status in BODY_PROBLEMS if status != 404),
            examples=EXAMPLES,
        )
    ),
)
async def generate(request: Request[Any, Any, Any], backend: InjectedBackend) -> GenerateResponse:
    """Decode one prompt."""
    asked = await read_body(request, GenerateRequest, backend.limits)
    request_id = request_id_of(request.scope)
    async with cancelled_on_disconnect(request.receive) as cancel:
        return await backend.compute(
            partial(backend.service.generate, asked, request_id=request_id, cancel=cancel)
        )
