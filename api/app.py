"""The Litestar application: routes, one error layer, one backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import msgspec
from litestar import Litestar, Response, route
from litestar.di import Provide

from api.aliases import delete_alias, put_alias
from api.answer import answer
from api.backend import Backend, SearchService
from api.chat import chat
from api.compress import compress
from api.documents import delete_document, put_document, read_document
from api.endpoint import SCOPE_KEY
from api.gate import Gate
from api.generate import generate
from api.indexes import describe_index, list_indexes
from api.jobs import cancel_job, order_build, read_job, tended
from api.limits import Limits
from api.observer import Observer
from api.openapi import openapi_document
from api.operations import info, livez, readyz
from api.playground import playground_route
from api.problem import to_response
from api.request_id import add_request_id_header
from api.search import search, search_in_index
from api.stages import encode, fuse, locate, retrieve
from rag.jobs.desk import Desk

ROUTES = (
    *(search, search_in_index, answer, chat),
    *(encode, retrieve, fuse, locate, compress, generate),
    *(list_indexes, describe_index, read_document, put_document, delete_document),
    *(put_alias, delete_alias, order_build, read_job, cancel_job),
    *(livez, readyz, info),
)


def create_app(
    service: SearchService,
    limits: Limits,
    gate: Gate | None = None,
    desk: Desk | None = None,
) -> Litestar:
    """The app around a service that the caller owns and closes.

    Without a gate all may pass, without a desk there are no builds.

    The models are loaded in the background once the app starts: until then `/readyz` says 503,
    and a request that needs a model waits for it.
    """
    backend = Backend(service, limits, desk)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        warming = asyncio.create_task(backend.warm_up())
        try:
            async with tended(desk):
                yield
        finally:
            await warming
            await backend.close()

    observer = Observer(backend.metrics)
    app = Litestar(
        ROUTES,
        dependencies={"backend": Provide(lambda: backend, sync_to_thread=False)},
        guards=[gate or Gate()],
        exception_handlers={Exception: to_response},
        before_request=observer.see_request,
        before_send=[add_request_id_header, observer.see_message],
        lifespan=[lifespan],
        request_max_body_size=limits.max_body_bytes,
        openapi_config=None,
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )
    app.state.backend = backend
    document = msgspec.json.encode(openapi_document(app.routes, version("evident-rag")))

    @route(
        ["/schema", "/schema/openapi.json"],
        http_method=["GET", "HEAD"],
        sync_to_thread=False,
        opt={SCOPE_KEY: None},
    )
    def schema() -> Response[bytes]:
        """The OpenAPI document."""
        return Response(document, media_type="application/json")

    app.register(schema)
    app.register(playground_route())
    app.register(backend.metrics.route())
    return app
