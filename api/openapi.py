"""The OpenAPI 3.1 document, made from the routes and from the structs they read and return.

The structs are the only schema: `msgspec.json.schema_components` writes the same bounds that the
decoder enforces.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.routes import BaseRoute, HTTPRoute

from api.endpoint import OPT_KEY, Endpoint
from api.event_stream import MEDIA_TYPE as EVENTS
from api.event_stream import UNNAMED
from api.jobs import JOB_ID
from api.names import INDEX_NAME
from api.problem import MEDIA_TYPE, Problem
from api.request_id import HEADER, WELL_FORMED
from indexes.document import MAX_ID_CHARS

REF = "#/components/schemas/{name}"
KEY = "key"
KEYS = """\
A key made by `rag keys create`, asked for once there is one. Each scope (read, write, admin) may \
do all that those before it may."""
DESCRIPTION = """\
Text goes in, an answer whose every sentence points at its evidence comes out.

Bodies are UTF-8 JSON objects; unknown fields are errors; integers are written without a \
fraction; of a key given twice the last wins. Offsets count Unicode code points. Failures are \
`application/problem+json` (RFC 9457)."""


def openapi_document(routes: Sequence[BaseRoute], version: str) -> dict[str, Any]:
    """The document as builtins, the same for the same routes."""
    operations = sorted(_documented(routes), key=lambda operation: operation[:2])
    shapes = [Problem]
    for _, _, endpoint in operations:
        shapes += [s for s in (endpoint.request, endpoint.response) if s is not None]
    _, schemas = msgspec.json.schema_components(list(dict.fromkeys(shapes)), ref_template=REF)
    paths: dict[str, Any] = {}
    for path, method, endpoint in operations:
        paths.setdefault(path, {})[method] = _operation(path, method, endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Evident", "version": version, "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": {name: _tidy(schema) for name, schema in sorted(schemas.items())},
            "responses": {
                str(status): _problem(status) for status in _problem_statuses(operations)
            },
            "securitySchemes": {
                KEY: {"type": "http", "scheme": "bearer", "description": KEYS},
            },
            "headers": {HEADER: _request_id("Identifies the request in the server's log.")},
            "parameters": {
                HEADER: {"name": HEADER, "in": "header", "required": False}
                | _request_id("Taken over as the request's identifier.")
            },
        },
    }


def _documented(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str, Endpoint]]:
    """Path template, lower-case method and endpoint; `HEAD` goes without saying."""
    for route in routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            endpoint = handler.opt.get(OPT_KEY)
            if endpoint is not None:
                path = re.sub(r":\w+}", "}", route.path)
                yield path, _method(handler), endpoint


def _method(handler: HTTPRouteHandler) -> str:
    (method,) = sorted(set(handler.http_methods) - {"HEAD"})
    return str(method).lower()


def _operation(path: str, method: str, endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": "_".join([method, *re.findall(r"\w+", path)]),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": [
            {"$ref": f"#/components/parameters/{HEADER}"},
            *_path_parameters(path),
            *_header_parameters(endpoint),
        ],
        "responses": {str(endpoint.status): _success(endpoint)}
        | {str(s): {"$ref": f"#/components/responses/{s}"} for s in _problems(endpoint)},
        "security": [] if endpoint.scope is None else [{KEY: [endpoint.scope]}],
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if endpoint.request is not None:
        examples = {name: {"value": value} for name, value in endpoint.examples.items()}
        content = {"schema": _ref(endpoint.request), "examples": examples}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[name]}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _header_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": _pattern(pattern)}
        for name, pattern in endpoint.request_headers.items()
    ]


def _success(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "description": inspect.cleandoc(endpoint.response.__doc__ or endpoint.summary),
        "headers": _HEADERS
        | {
            name: {"required": True, "schema": _pattern(pattern)}
            for name, pattern in endpoint.response_headers.items()
        },
        "content": {"application/json": {"schema": _ref(endpoint.response)}}
        | ({EVENTS: {"schema": _event(endpoint.events)}} if endpoint.events else {}),
    }


def _event(names: Sequence[str]) -> dict[str, Any]:
    """One server-sent event: its data are JSON."""
    fields = {"id": {"type": "string"}, "data": {"type": "string"}}
    return {
        "type": "object",
        "properties": fields | {"event": {"type": "string", "enum": list(names)}},
        "required": ["data"] if names == (UNNAMED,) else ["id", "event", "data"],
    }


def _problem_statuses(operations: Sequence[tuple[str, str, Endpoint]]) -> list[int]:
    return sorted({s for _, _, endpoint in operations for s in _problems(endpoint)})


def _problems(endpoint: Endpoint) -> tuple[int, ...]:
    """The statuses of problems: what every operation can answer goes without saying."""
    return (*endpoint.problems, *(() if endpoint.scope is None else (401, 403)), 500)


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _HEADERS,
        "content": {MEDIA_TYPE: {"schema": _ref(Problem)}},
    }


_HEADERS = {HEADER: {"$ref": f"#/components/headers/{HEADER}"}}


def _request_id(description: str) -> dict[str, Any]:
    return {"description": description, "schema": _pattern(WELL_FORMED.pattern)}


def _pattern(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern}$"}


def _ref(shape: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([shape], ref_template=REF)
    return schema


def _tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the indentation of its docstring taken out."""
    if "description" not in schema:
        return schema
    return schema | {"description": inspect.cleandoc(schema["description"])}


_PATH_SCHEMAS = {
    "name": _pattern(INDEX_NAME.pattern),
    "job": _pattern(JOB_ID.pattern),
    "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARS},
}
