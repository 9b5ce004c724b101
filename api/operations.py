"""For those who run the service: is it alive, is it ready, what does it serve."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import msgspec
from litestar import Request, route

from api.backend import InjectedBackend
from api.endpoint import Endpoint, documented
from api.limits import Limits
from api.request_id import request_id_of
from rag.information import Information


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    request_id: str
    status: Literal["alive"] = "alive"


class Ready(msgspec.Struct, frozen=True):
    """The models are loaded."""

    request_id: str
    status: Literal["ready"] = "ready"


class Info(msgspec.Struct, frozen=True):
    """What is served, and within which limits."""

    request_id: str
    service: Information
    limits: Limits


@route(
    "/livez",
    http_method=["GET", "HEAD"],
    opt=documented(
        Endpoint(summary="Is the process alive?", response=Alive, tag="operations", scope=None)
    ),
)
async def livez(request: Request[Any, Any, Any]) -> Alive:
    """Needs no model and no index."""
    return Alive(request_id_of(request.scope))


@route(
    "/readyz",
    http_method=["GET", "HEAD"],
    opt=documented(
        Endpoint(
            summary="Can it answer?", response=Ready, tag="operations", problems=(503,), scope=None
        )
    ),
)
async def readyz(request: Request[Any, Any, Any], backend: InjectedBackend) -> Ready:
    """503 until the models are loaded."""
    backend.check_ready()
    return Ready(request_id_of(request.scope))


@route(
    "/v1/info",
    http_method=["GET", "HEAD"],
    opt=documented(Endpoint(summary="Models and limits", response=Info, tag="operations")),
)
async def info(request: Request[Any, Any, Any], backend: InjectedBackend) -> Info:
    """Models, versions and limits in force."""
    facts = await asyncio.to_thread(backend.service.info)
    return Info(request_id_of(request.scope), facts, backend.limits)
