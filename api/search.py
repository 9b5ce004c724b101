"""`POST /v1/search`: ranked evidence."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from litestar import Request, post
from litestar.params import FromPath
from msgspec import UNSET, UnsetType

from api.backend import Backend, InjectedBackend
from api.body import read_body
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.names import checked_name
from api.request_id import request_id_of
from indexes.errors import InvalidInput
from rag.search import Name, SearchRequest, SearchResponse

SIMPLE = {"query": "who discovered penicillin?", "limit": 5}
HYBRID = {
    "query": "vitamin D and bone density",
    "retrievers": [{"name": "bm25", "weight": 1.0}, {"name": "minilm", "weight": 2.0}],
    "fusion": {"method": "rrf"},
    "filter": {"must": [{"field": "year", "range": {"gte": 2010}}]},
    "explain": True,
}


class SearchInIndexRequest(
    SearchRequest, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """What to search for in the index that the path names; `index`, if given, must be the same."""

    index: Name | UnsetType = UNSET  # type: ignore[assignment]


@post(
    ["/v1/search", "/search"],
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Search an index",
            response=SearchResponse,
            tag="retrieval",
            request=SearchRequest,
            problems=BODY_PROBLEMS,
            examples={"simple": {"index": "demo"} | SIMPLE, "hybrid": {"index": "demo"} | HYBRID},
        )
    ),
)
async def search(request: Request[Any, Any, Any], backend: InjectedBackend) -> SearchResponse:
    """Ranked evidence from one index, or from the retrievers of it that are named."""
    asked = await read_body(request, SearchRequest, backend.limits)
    return await _search(request, backend, asked)


@post(
    "/v1/indexes/{name:str}/search",
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Search the index named in the path",
            response=SearchResponse,
            tag="retrieval",
            request=SearchInIndexRequest,
            problems=BODY_PROBLEMS,
            examples={"simple": SIMPLE, "hybrid": HYBRID},
        )
    ),
)
async def search_in_index(
    request: Request[Any, Any, Any], backend: InjectedBackend, name: FromPath[str]
) -> SearchResponse:
    """The same as `/v1/search`, with the index in the path."""
    name = checked_name(name)
    asked = await read_body(request, SearchInIndexRequest, backend.limits)
    if asked.index not in {UNSET, name}:
        raise InvalidInput(f"the body names another index than the path, {name!r}", "/index")
    return await _search(request, backend, msgspec.structs.replace(asked, index=name))


async def _search(
    request: Request[Any, Any, Any], backend: Backend, asked: SearchRequest
) -> SearchResponse:
    request_id = request_id_of(request.scope)
    work = partial(backend.service.search, asked, request_id=request_id)
    return await backend.compute(work, asked.timeout_ms)
