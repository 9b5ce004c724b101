"""`GET /v1/indexes`: which indexes there are, and what is in one."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import Request, route
from litestar.params import FromPath

from api.backend import InjectedBackend
from api.endpoint import Endpoint, documented
from api.names import checked_name
from api.request_id import request_id_of
from rag.information import IndexInfo


class IndexList(msgspec.Struct, frozen=True):
    """Names of the indexes, sorted, and the aliases that point at them.

    Those that are `quarantined` are not served: their files are damaged.
    """

    request_id: str
    indexes: list[str]
    aliases: dict[str, str] = {}
    quarantined: list[str] = []


class IndexDescription(msgspec.Struct, frozen=True):
    """One index: the facts of its manifest."""

    request_id: str
    index: str
    info: IndexInfo


@route(
    "/v1/indexes",
    http_method=["GET", "HEAD"],
    opt=documented(Endpoint(summary="List the indexes", response=IndexList, tag="indexes")),
)
async def list_indexes(request: Request[Any, Any, Any], backend: InjectedBackend) -> IndexList:
    """Names of all indexes under the root."""
    names = await asyncio.to_thread(backend.service.index_names)
    aliases = await asyncio.to_thread(backend.service.aliases)
    damaged = await asyncio.to_thread(backend.service.quarantined)
    return IndexList(request_id_of(request.scope), names, aliases, damaged)


@route(
    "/v1/indexes/{name:str}",
    http_method=["GET", "HEAD"],
    opt=documented(
        Endpoint(
            summary="Describe one index",
            response=IndexDescription,
            tag="indexes",
            problems=(404,),
        )
    ),
)
async def describe_index(
    request: Request[Any, Any, Any], backend: InjectedBackend, name: FromPath[str]
) -> IndexDescription:
    """Version, retrievers and counts of one index."""
    name = checked_name(name)
    info = await asyncio.to_thread(backend.service.index_info, name)
    return IndexDescription(request_id_of(request.scope), name, info)
