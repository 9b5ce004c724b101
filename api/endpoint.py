"""What the OpenAPI document says about one handler; declared beside the handler, as its `opt`."""

from __future__ import annotations

from typing import Any

import msgspec

from rag.keys import Scope

OPT_KEY = "endpoint"
SCOPE_KEY = "scope"
"""In the `opt` of a route that is not documented: the scope it needs, None for everybody."""


class Endpoint(msgspec.Struct, frozen=True):
    """One operation: its shapes are the very structs that the handler reads and returns.

    `problems` are the statuses that answer with a problem; 500 is always among them. `events`
    are the server-sent events that the reply may consist of. `scope` is what a key must be good
    for; None: no key is needed. `status` is that of success. Headers, those of a request optional,
    are given with the pattern of their value.
    """

    summary: str
    response: Any
    tag: str
    request: Any = None
    problems: tuple[int, ...] = ()
    examples: dict[str, Any] = {}
    description: str = ""
    events: tuple[str, ...] = ()
    scope: Scope | None = "read"
    status: int = 200
    request_headers: dict[str, str] = {}
    response_headers: dict[str, str] = {}


BODY_PROBLEMS = (400, 404, 413, 415, 422, 429, 503, 504)
"""What any endpoint with a JSON body about an index can answer."""


def documented(endpoint: Endpoint) -> dict[str, Any]:
    """The handler's `opt` that carries its documentation."""
    return {OPT_KEY: endpoint}
