"""One line a response in the log: who asked is not in it, nor what."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import quote

from litestar import Request
from litestar.types import Message, Scope

from api.metrics import Metrics
from api.request_id import request_id_of
from api.tracing import begin_span, end_span

logger = logging.getLogger(__name__)

_STARTED = "evident.started"


class Observer:
    """Sees every request come and every response go: the log's lines, metrics and spans."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def see_request(self, request: Request[Any, Any, Any]) -> None:
        """A hook before a handler."""
        request_id_of(request.scope)
        request.scope["state"][_STARTED] = time.monotonic()
        begin_span(request.scope)

    async def see_message(self, message: Message, scope: Scope) -> None:
        """A hook before a message is sent."""
        if message["type"] == "http.response.start":
            self._see_start(scope, message["status"])
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._see_end(scope)

    def _see_start(self, scope: Scope, status: int) -> None:
        """Log method, path (quoted, so that it stays one line), status, time and request id."""
        self._metrics.count_response(scope, status)
        request_id = request_id_of(scope)
        spent_ms = round(1000 * _spent_s(scope), 1)
        path = quote(scope["path"])
        logger.info(
            "%s %s %d %s",
            scope.get("method"),
            path,
            status,
            request_id,
            extra={
                "method": scope.get("method"),
                "path": path,
                "status": status,
                "request_id": request_id,
                "ms": spent_ms,
            },
        )
        scope["state"]["evident.status"] = status

    def _see_end(self, scope: Scope) -> None:
        self._metrics.time_request(scope, _spent_s(scope))
        end_span(scope, int(scope["state"].get("evident.status", 0)))


def _spent_s(scope: Scope) -> float:
    """Seconds since the request came; 0 for one that no route took."""
    started = scope.setdefault("state", {}).get(_STARTED)
    return 0.0 if started is None else time.monotonic() - float(started)
