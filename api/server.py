"""The HTTP server around the app: a bound socket, a clear word when it listens, a graceful stop."""

from __future__ import annotations

import logging
import socket

import uvicorn

from api.app import create_app
from api.backend import SearchService
from api.gate import Gate
from api.limits import Limits
from indexes.errors import UsageError
from rag.jobs.desk import Desk

logger = logging.getLogger(__name__)

GRACE_S = 30
"""How long requests in flight may take to finish after a signal to stop."""


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
    AnnouncingServer(config(service, limits, gate, desk)).run(sockets=[listener])


def config(
    service: SearchService, limits: Limits, gate: Gate | None = None, desk: Desk | None = None
) -> uvicorn.Config:
    """The server's settings: our own log lines, no banner, a bounded wait at the end."""
    return uvicorn.Config(
        create_app(service, limits, gate, desk),
        lifespan="on",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )


class AnnouncingServer(uvicorn.Server):
    """A server that tells its address once it accepts connections, not before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then log the address that was really bound (a port of 0 is any free one)."""
        await super().startup(sockets=sockets)
        for listener in sockets or []:
            host, port, *_ = listener.getsockname()
            shown = f"[{host}]" if listener.family == socket.AF_INET6 else host
            logger.info("serving on http://%s:%d", shown, port)
