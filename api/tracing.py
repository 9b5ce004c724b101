"""Hooks for OpenTelemetry: a span a request and one a stage, where its API is installed.

Nothing is sent from here. Spans go wherever the process was told to send them, for example by
`opentelemetry-instrument rag serve`; without such a setting they cost next to nothing.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

from litestar.types import Scope

from api.request_id import request_id_of
from rag.stopwatch import ON_STAGE

_SPAN = "evident.span"


def _api() -> Any:
    """The packages `opentelemetry.trace` and `.propagate`, None where they are not installed."""
    try:
        trace = importlib.import_module("opentelemetry.trace")
        return trace, importlib.import_module("opentelemetry.propagate")
    except ImportError:
        return None


_API = _api()


def begin_span(scope: Scope) -> None:
    """Open the request's span below its caller's (`traceparent`); its stages become children.

    To be called in the request's task, whose context its threads inherit.
    """
    if _API is None:
        return
    trace, propagate = _API
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    span = trace.get_tracer("evident").start_span(
        f"{scope.get('method')} {scope.get('path_template') or 'unmatched'}",
        context=propagate.extract(headers),
        kind=trace.SpanKind.SERVER,
        attributes={"evident.request_id": request_id_of(scope)},
    )
    if not span.is_recording():
        return
    scope["state"][_SPAN] = span
    parent = trace.set_span_in_context(span)

    def tell(name: str, started: float, ended: float) -> None:
        ahead = time.time() - time.monotonic()
        child = trace.get_tracer("evident").start_span(
            name, context=parent, start_time=int((started + ahead) * 1e9)
        )
        child.end(end_time=int((ended + ahead) * 1e9))

    ON_STAGE.set(tell)


def end_span(scope: Scope, status: int) -> None:
    """Close the request's span, if it has one."""
    span = scope["state"].pop(_SPAN, None)
    if span is not None:
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(_API[0].StatusCode.ERROR)
        span.end()
