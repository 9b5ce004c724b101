"""One identifier a request: the caller's if it is well formed, else a fresh one."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

from litestar.types import Message, Scope

HEADER = "X-Request-ID"
WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")
_KEY = "evident.request_id"

CURRENT: ContextVar[str] = ContextVar("request_id", default="")
"""The identifier of the request that this task or thread works for; the log has it."""


def request_id_of(scope: Scope) -> str:
    """The identifier of this request, settled on the first call."""
    state = scope.setdefault("state", {})
    if _KEY not in state:
        state[_KEY] = _offered(scope) or uuid.uuid4().hex
        CURRENT.set(state[_KEY])
    return str(state[_KEY])


async def add_request_id_header(message: Message, scope: Scope) -> None:
    """Put the identifier on every HTTP response, errors of the router included."""
    if message["type"] == "http.response.start":
        value = request_id_of(scope).encode("ascii")
        message["headers"] = [*message.get("headers", ()), (HEADER.lower().encode("ascii"), value)]


def _offered(scope: Scope) -> str | None:
    name = HEADER.lower().encode("ascii")
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return values[0] if len(values) == 1 and WELL_FORMED.fullmatch(values[0]) else None
