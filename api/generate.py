"""`POST /v1/generate`: the decoding stage alone, from a prompt or from evidence."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Request, post
from msgspec import Meta

from api.backend import InjectedBackend
from api.body import read_body
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.request_id import request_id_of
from indexes.errors import InvalidInput
from rag.generating import GenerateRequest
from rag.search import Hit
from rag.staged import GroundedRequest, GroundedResponse, ShownText

MAX_EVIDENCE = 50

EXAMPLES = {
    "simple": {"prompt": "Name three primary colours.", "decode": {"max_tokens": 32}},
    "rapid": {
        "context": "The Eiffel Tower was completed in 1889. It stands in Paris.",
        "prompt": "When was the tower completed?",
        "decode": {"max_tokens": 32, "drafter": "rapid"},
    },
    "grounded": {
        "prompt": "When was the Eiffel Tower completed?",
        "evidence": [
            {
                "id": "eiffel",
                "rank": 1,
                "score": 9.1,
                "scores": {},
                "title": "Eiffel Tower",
                "text": "It was completed in 1889. It stands in Paris.",
            }
        ],
    },
}


class GenerateBody(GenerateRequest, frozen=True, forbid_unknown_fields=True):
    """A prompt, as the user's turn of a chat unless `raw`; `context` stands before it.

    With `evidence`, as `/v1/locate` returns it, the prompt is a question that is answered from it,
    with citations; `shown` is what `/v1/compress` left of it for the model to read.
    """

    evidence: Annotated[list[Hit], Meta(max_length=MAX_EVIDENCE)] | None = None
    shown: ShownText | None = None


@post(
    "/v1/generate",
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Continue a prompt, or answer from evidence",
            description="No index is involved. Decoding stops when the client goes away.",
            response=GroundedResponse,
            tag="stages",
            request=GenerateBody,
            problems=tuple(status for status in BODY_PROBLEMS if status != 404),
            examples=EXAMPLES,
        )
    ),
)
async def generate(request: Request[Any, Any, Any], backend: InjectedBackend) -> GroundedResponse:
    """Decode one prompt."""
    asked = await read_body(request, GenerateBody, backend.limits)
    request_id = request_id_of(request.scope)
    async with backend.cancelled_on_disconnect(request.receive) as cancel:
        if asked.evidence is None:
            if asked.shown is not None:
                raise InvalidInput("nothing is shown without evidence", "/shown")
            plain = partial(backend.service.generate, asked, request_id=request_id, cancel=cancel)
            written = await backend.write(plain, asked.timeout_ms)
            return GroundedResponse(**msgspec.structs.asdict(written))
        work = partial(
            backend.service.ground, _grounded(asked), request_id=request_id, cancel=cancel
        )
        return await backend.write(work, asked.timeout_ms)


def _grounded(asked: GenerateBody) -> GroundedRequest:
    """Raises `InvalidInput` for what belongs to a bare prompt."""
    for field in ("context", "raw"):
        if getattr(asked, field):
            raise InvalidInput("this does not go with evidence", f"/{field}")
    return GroundedRequest(
        asked.prompt, asked.evidence or [], asked.shown, asked.decode, asked.timeout_ms
    )
