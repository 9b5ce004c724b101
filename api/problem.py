"""Every failure as `application/problem+json` (RFC 9457): stable type, variable detail."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from api.request_id import request_id_of
from indexes.errors import EvidentError, InvalidInput

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:evident:problem:"

STATUS = {
    "usage": 422,
    "malformed-input": 400,
    "invalid-input": 422,
    "too-large": 413,
    "not-found": 404,
    "index-not-found": 404,
    "document-not-found": 404,
    "conflict": 409,
    "index-locked": 409,
    "unsupported": 422,
    "deadline-exceeded": 504,
    # A request names no model: a missing one is the server's lack.
    "model-not-found": 503,
    "model-unavailable": 503,
    "download-failed": 503,
    "cancelled": 503,
    "unsafe-model": 500,
    "storage-full": 507,
    "corrupt-index": 500,
    "internal-error": 500,
}
"""The status of each problem type of the exception tree."""

HTTP_PROBLEMS = {
    400: ("malformed-request", "Malformed request"),
    401: ("key-needed", "A key is needed"),
    403: ("beyond-scope", "The key may not do this"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    415: ("unsupported-media-type", "Unsupported media type"),
    429: ("overloaded", "Too many requests"),
    503: ("not-ready", "Not ready"),
}
"""Problem type and title of failures that only HTTP knows."""

SPOKEN = frozenset({"deadline-exceeded", "cancelled", "storage-full"})
"""Server-side problems whose own words are safe to show; the others may name paths."""


class Violation(msgspec.Struct, frozen=True):
    """One thing wrong with the body: a JSON pointer and a sentence."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True):
    """What went wrong. Programs branch on `type`, people read `detail`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[Violation] = []


def to_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The one exception handler of the app."""
    problem = problem_of(request, error)
    headers = (error.headers or {}) if isinstance(error, HTTPException) else {}
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def problem_of(request: Request[Any, Any, Any], error: BaseException) -> Problem:
    """The problem document of a failure, which is logged when it is the server's."""
    slug, title, status, detail = _classify(request, error)
    request_id = request_id_of(request.scope)
    if status >= 500:
        unexpected = not isinstance(error, EvidentError | HTTPException)
        level = logging.ERROR if status == 500 else logging.WARNING
        logger.log(
            level, "request %s: %r", request_id, error, exc_info=error if unexpected else None
        )
    violations = [Violation(error.pointer, detail)] if isinstance(error, InvalidInput) else []
    return Problem(
        type=TYPE_PREFIX + slug,
        title=title,
        status=status,
        detail=detail,
        instance=quote(request.scope["path"]),
        request_id=request_id,
        errors=violations,
    )


def _classify(request: Request[Any, Any, Any], error: BaseException) -> tuple[str, str, int, str]:
    """Problem slug, title, status and detail."""
    if isinstance(error, EvidentError):
        status = STATUS[error.problem]
        hidden = status >= 500 and error.problem not in SPOKEN
        detail = _unspoken(error.title) if hidden else str(error)
        return error.problem, error.title, status, detail
    if isinstance(error, HTTPException) and error.status_code in HTTP_PROBLEMS:
        slug, title = HTTP_PROBLEMS[error.status_code]
        return slug, title, error.status_code, _http_detail(request, error)
    root = EvidentError
    return root.problem, root.title, 500, _unspoken(root.title)


def _unspoken(title: str) -> str:
    return f"{title}. The server's log has the reason under this request_id."


def _http_detail(request: Request[Any, Any, Any], error: HTTPException) -> str:
    if error.status_code == 404:
        return f"nothing is served at {quote(request.scope['path'])}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("allow", "")
        return f"{request.scope['method']} is not allowed here; allowed: {allowed}"
    return error.detail
