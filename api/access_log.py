"""One line a response in the log: who asked is not in it, nor what."""

from __future__ import annotations

import logging
from urllib.parse import quote

from litestar.types import Message, Scope

from api.request_id import request_id_of

logger = logging.getLogger(__name__)


async def log_response(message: Message, scope: Scope) -> None:
    """Log method, path (quoted, so that it stays one line), status and request id."""
    if message["type"] == "http.response.start":
        logger.info(
            "%s %s %d %s",
            scope.get("method"),
            quote(scope["path"]),
            message["status"],
            request_id_of(scope),
        )
