"""The HTTP server around the app: a bound socket, a clear word when it listens, a graceful stop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn
from litestar import Litestar

from api.app import create_app
from api.backend import Backend, SearchService
from api.gate import Gate
from api.limits import Limits
from indexes.errors import UsageError
from rag.jobs.desk import Desk

logger = logging.getLogger(__name__)

GRACE_S = 30
"""How long requests in flight may take to finish after a signal to stop."""

LAST_WORDS_S = 3
"""So long before the end, answers that are still being written are ended with a clean error."""


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address. Raises `UsageError` with the reason when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"cannot serve on {host}:{port}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot serve on {host}:{port}: {error.strerror}") from error
    return listener


def serve(
    service: SearchService,
    listener: socket.socket,
    limits: Limits,
    gate: Gate | None = None,
    desk: Desk | None = None,
) -> None:
    """Serve on a bound socket; return after a graceful stop by SIGINT or SIGTERM."""
    app = create_app(service, limits, gate, desk)
    GracefulServer(app).run(sockets=[listener])


def config(app: Litestar, grace_s: int = GRACE_S) -> uvicorn.Config:
    """The server's settings: our own log lines, no banner, a bounded wait at the end."""
    return uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=grace_s,
    )


class GracefulServer(uvicorn.Server):
    """A server that tells its address once it accepts connections, and ends in good order.

    After a signal to stop nothing new is accepted and what is in flight goes on. What is still
    being written shortly before `grace_s` are over ends with an `error` event or a problem.
    """

    def __init__(self, app: Litestar, grace_s: int = GRACE_S) -> None:
        super().__init__(config(app, grace_s))
        backend: Backend = app.state.backend
        self._stop_answers: Callable[[], None] = backend.stop_answers
        self._patience_s = max(0, grace_s - LAST_WORDS_S)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then log the address that was really bound (a port of 0 is any free one)."""
        await super().startup(sockets=sockets)
        for listener in sockets or []:
            host, port, *_ = listener.getsockname()
            shown = f"[{host}]" if listener.family == socket.AF_INET6 else host
            logger.info("serving on http://%s:%d", shown, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let what is in flight finish, end what does not."""
        last_words = asyncio.get_running_loop().call_later(self._patience_s, self._stop_answers)
        try:
            await super().shutdown(sockets=sockets)
        finally:
            last_words.cancel()
