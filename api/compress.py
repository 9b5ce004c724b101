"""`POST /v1/compress`: the compression stage alone."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Request, post

from api.backend import InjectedBackend
from api.body import read_body
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.request_id import request_id_of
from rag.compress.compression import CompressRequest, CompressResponse

EXAMPLES = {
    "text": {
        "text": "Penicillin, an antibiotic, kills bacteria. It was found by Alexander Fleming.",
        "query": "Who found penicillin?",
        "rate": 0.5,
    },
    "hits": {
        "hits": [
            {"id": "a", "title": "Tides", "text": "The Moon causes tides.", "score": 0.9},
            {"id": "b", "title": "Moon", "text": "The Moon has no air.", "score": 0.4},
        ],
        "query": "What causes tides?",
        "target_tokens": 8,
        "strict": True,
    },
}


@post(
    "/v1/compress",
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Leave the less important words out of texts",
            description="What is kept are slices of the texts, in order; `spans` say where each "
            "stood. Hits of a search may be passed on as they are.",
            response=CompressResponse,
            tag="generation",
            request=CompressRequest,
            problems=tuple(status for status in BODY_PROBLEMS if status != 404),
            examples=EXAMPLES,
        )
    ),
)
async def compress(request: Request[Any, Any, Any], backend: InjectedBackend) -> CompressResponse:
    """Compress one text, or several hits."""
    asked = await read_body(request, CompressRequest, backend.limits)
    request_id = request_id_of(request.scope)
    work = partial(backend.service.compress, asked, request_id=request_id)
    return await backend.compute(work, asked.timeout_ms)
