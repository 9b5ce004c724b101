"""`/v1/encode`, `/v1/retrieve`, `/v1/fuse`, `/v1/locate`: the stages of an answer, one at a time.

Each takes what the one before returned, with options of its own beside it; `/v1/compress` and
`/v1/generate` are next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from litestar import Request, post

from api.backend import Backend, InjectedBackend
from api.body import read_body
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.request_id import request_id_of
from rag.staged import (
    Encoded,
    EncodeRequest,
    Fused,
    FuseRequest,
    Located,
    LocateRequest,
    Retrieved,
    RetrieveRequest,
)

T = TypeVar("T")

ENCODED: dict[str, Any] = {
    "index": "demo",
    "index_version": 1,
    "query": "who discovered penicillin?",
    "retrievers": [{"name": "bm25"}],
    "codes": [{"name": "bm25", "sparse": {"tokens": ["discov", "penicillin"], "values": [1, 1]}}],
}
RANKINGS = [{"name": "bm25", "found": [{"id": "penicillin", "row": 0, "score": 7.5}]}]
HIT = {
    "id": "penicillin",
    "rank": 1,
    "score": 7.5,
    "scores": {"bm25": {"rank": 1, "score": 7.5}},
    "title": "Penicillin",
    "text": "It was discovered by Alexander Fleming.",
}


def _stage(summary: str, request: Any, response: Any, example: dict[str, Any]) -> dict[str, Any]:
    conflict = () if request is EncodeRequest else (409,)
    return documented(
        Endpoint(
            summary=summary,
            response=response,
            tag="stages",
            request=request,
            problems=(*BODY_PROBLEMS, *conflict),
            examples={"simple": example},
        )
    )


@post(
    "/v1/encode",
    status_code=200,
    opt=_stage(
        "Represent a query with the retrievers of an index",
        EncodeRequest,
        Encoded,
        {"index": "demo", "query": "who discovered penicillin?"},
    ),
)
async def encode(request: Request[Any, Any, Any], backend: InjectedBackend) -> Encoded:
    """The first stage."""
    return await _run(request, backend, EncodeRequest, backend.service.encode)


@post(
    "/v1/retrieve",
    status_code=200,
    opt=_stage(
        "Find documents with each retriever",
        RetrieveRequest,
        Retrieved,
        ENCODED | {"limit": 5},
    ),
)
async def retrieve(request: Request[Any, Any, Any], backend: InjectedBackend) -> Retrieved:
    """409 when the index has changed since the query was encoded."""
    return await _run(request, backend, RetrieveRequest, backend.service.retrieve)


@post(
    "/v1/fuse",
    status_code=200,
    opt=_stage(
        "Make one ranking of several, with texts",
        FuseRequest,
        Fused,
        ENCODED | {"rankings": RANKINGS, "fusion": {"method": "rrf"}},
    ),
)
async def fuse(request: Request[Any, Any, Any], backend: InjectedBackend) -> Fused:
    """The hits are those of `/v1/search`."""
    return await _run(request, backend, FuseRequest, backend.service.fuse)


@post(
    "/v1/locate",
    status_code=200,
    opt=_stage(
        "Keep the hits that can stand as evidence",
        LocateRequest,
        Located,
        ENCODED | {"hits": [HIT], "rows": [0], "min_evidence": 0.5},
    ),
)
async def locate(request: Request[Any, Any, Any], backend: InjectedBackend) -> Located:
    """What an answer would be written from."""
    return await _run(request, backend, LocateRequest, backend.service.locate)


async def _run(
    request: Request[Any, Any, Any], backend: Backend, shape: Any, stage: Callable[..., T]
) -> T:
    asked = await read_body(request, shape, backend.limits)
    work = partial(stage, asked, request_id=request_id_of(request.scope))
    return await backend.compute(work, asked.timeout_ms)
