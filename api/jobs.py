"""`/v1/indexes/{name}/builds` and `/v1/jobs/{job}`: builds in a process of their own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import msgspec
from litestar import Request, Response, delete, post, route
from litestar.exceptions import TooManyRequestsException
from litestar.params import FromPath

from api.backend import InjectedBackend
from api.body import read_body
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.names import checked_name
from api.request_id import request_id_of
from indexes.errors import InvalidInput, NotFound
from rag.jobs.desk import Desk
from rag.jobs.job import BuildOrder, Job

KEY = "Idempotency-Key"
WELL_FORMED_KEY = re.compile(r"[A-Za-z0-9._-]{1,128}")
JOB_ID = re.compile(r"[0-9a-f]{32}")
TEND_S = 1.0

EXAMPLES = {
    "documents": {
        "documents": [
            {"id": "penicillin", "text": "Penicillin was discovered by Alexander Fleming."}
        ],
        "retrievers": ["bm25"],
    },
    "inputs": {"inputs": ["papers"], "retrievers": ["bm25", "minilm"]},
}


class JobReply(msgspec.Struct, frozen=True):
    """A job as it is now."""

    request_id: str
    job: Job


@post(
    "/v1/indexes/{name:str}/builds",
    status_code=202,
    opt=documented(
        Endpoint(
            summary="Build an index",
            description="The index comes to hold exactly the documents of the order, in one commit "
            "at the end; it is made if there is none. `Location` is where to ask after the job. "
            "With an `Idempotency-Key` the same order is placed once, however often it is sent.",
            response=JobReply,
            tag="jobs",
            request=BuildOrder,
            problems=(*BODY_PROBLEMS, 409, 507),
            examples=EXAMPLES,
            scope="admin",
            status=202,
            request_headers={KEY: WELL_FORMED_KEY.pattern},
            response_headers={"Location": f"/v1/jobs/{JOB_ID.pattern}"},
        )
    ),
)
async def order_build(
    request: Request[Any, Any, Any], backend: InjectedBackend, name: FromPath[str]
) -> Response[JobReply]:
    """Answers once the order is on the disk."""
    name = checked_name(name)
    build = await read_body(request, BuildOrder, backend.limits)
    desk, key = _desk(backend.desk), _idempotency_key(request)
    if await asyncio.to_thread(desk.n_pending) >= backend.limits.max_pending_jobs:
        raise TooManyRequestsException(
            detail="too many jobs are pending", headers={"Retry-After": "60"}
        )
    job = await backend.compute(partial(desk.submit, name, build, key))
    reply = JobReply(request_id_of(request.scope), job)
    return Response(reply, status_code=202, headers={"Location": f"/v1/jobs/{job.id}"})


@route(
    "/v1/jobs/{job:str}",
    http_method=["GET", "HEAD"],
    opt=documented(
        Endpoint(summary="Ask after a job", response=JobReply, tag="jobs", problems=(404,))
    ),
)
async def read_job(
    request: Request[Any, Any, Any], backend: InjectedBackend, job: FromPath[str]
) -> JobReply:
    """State, progress and rejected documents."""
    found = await asyncio.to_thread(_desk(backend.desk).read, _checked_id(job))
    return JobReply(request_id_of(request.scope), found)


@delete(
    "/v1/jobs/{job:str}",
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Cancel a job",
            description="It stops at its next step, and the index stays as it was. A job that has "
            "ended stays as it is.",
            response=JobReply,
            tag="jobs",
            problems=(404,),
            scope="admin",
        )
    ),
)
async def cancel_job(
    request: Request[Any, Any, Any], backend: InjectedBackend, job: FromPath[str]
) -> JobReply:
    """The reply may still say that it is running."""
    found = await asyncio.to_thread(_desk(backend.desk).cancel, _checked_id(job))
    return JobReply(request_id_of(request.scope), found)


@asynccontextmanager
async def tended(desk: Desk | None) -> AsyncIterator[None]:
    """While the block lasts, a worker that died is followed by another."""
    tending = asyncio.create_task(_tend(desk)) if desk is not None else None
    try:
        yield
    finally:
        if tending is not None:
            tending.cancel()
            with suppress(asyncio.CancelledError):
                await tending


async def _tend(desk: Desk) -> None:
    while True:
        with suppress(OSError):
            await asyncio.to_thread(desk.tend)
        await asyncio.sleep(TEND_S)


def _desk(desk: Desk | None) -> Desk:
    """Raises `NotFound` where the service was started without a place for jobs."""
    if desk is None:
        raise NotFound("this service builds no indexes")
    return desk


def _checked_id(job_id: str) -> str:
    if not JOB_ID.fullmatch(job_id):
        raise NotFound(f"no job can be called {job_id[:64]!r}")
    return job_id


def _idempotency_key(request: Request[Any, Any, Any]) -> str:
    keys = request.headers.getall(KEY, [])
    if not keys:
        return ""
    if len(keys) > 1 or not WELL_FORMED_KEY.fullmatch(keys[0]):
        raise InvalidInput(f"{KEY} has up to 128 of A-Z, a-z, 0-9, '.', '_' and '-'")
    return keys[0]
