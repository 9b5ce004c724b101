"""`/v1/aliases/{name}`: names that point at an index, moved in one step."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from litestar import Request, delete, put
from litestar.params import FromPath

from api.backend import InjectedBackend
from api.body import read_body
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.names import checked_name
from api.request_id import request_id_of
from rag.search import Name


class AliasBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The index that the alias shall mean."""

    index: Name


class AliasReply(msgspec.Struct, frozen=True):
    """What the alias means from now on; null: it is none any more."""

    request_id: str
    alias: str
    index: str | None


@put(
    "/v1/aliases/{name:str}",
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Point an alias at an index",
            description="Requests that began before still see the index that it meant then. The "
            "name of an index cannot be an alias.",
            response=AliasReply,
            tag="indexes",
            request=AliasBody,
            problems=BODY_PROBLEMS,
            examples={"simple": {"index": "papers-2026-11"}},
            scope="admin",
        )
    ),
)
async def put_alias(
    request: Request[Any, Any, Any], backend: InjectedBackend, name: FromPath[str]
) -> AliasReply:
    """On the disk before the reply."""
    name = checked_name(name)
    body = await read_body(request, AliasBody, backend.limits)
    await backend.compute(partial(backend.service.set_alias, name, body.index))
    return AliasReply(request_id_of(request.scope), name, body.index)


@delete(
    "/v1/aliases/{name:str}",
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Remove an alias",
            response=AliasReply,
            tag="indexes",
            problems=(404, 422, 429),
            scope="admin",
        )
    ),
)
async def delete_alias(
    request: Request[Any, Any, Any], backend: InjectedBackend, name: FromPath[str]
) -> AliasReply:
    """The index stays."""
    name = checked_name(name)
    await backend.compute(partial(backend.service.set_alias, name, None))
    return AliasReply(request_id_of(request.scope), name, None)
