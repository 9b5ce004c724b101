"""What Prometheus may scrape at `/metrics`: requests, stages, the queue, tokens. Nothing asked."""

from __future__ import annotations

from collections.abc import Callable

from litestar import Response, route
from litestar.handlers import HTTPRouteHandler
from litestar.types import Message, Scope
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from api.endpoint import SCOPE_KEY
from rag.answer import AnswerResponse, DecodeReport, Usage
from rag.generating import GenerateResponse
from rag.search import SearchResponse

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Owns the registry of one app. Safe for threads."""

    def __init__(self, n_running: Callable[[], int], n_queued: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._responses = Counter(
            "evident_responses", "Responses", ["path", "status"], registry=self._registry
        )
        self._stages = Histogram(
            "evident_stage_seconds",
            "Time of a stage",
            ["stage"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._tokens = Counter("evident_tokens", "Tokens", ["kind"], registry=self._registry)
        self._refused = Counter(
            "evident_refused", "Requests refused because too many waited", registry=self._registry
        )
        for name, text, count in (
            ("evident_running", "Requests that compute", n_running),
            ("evident_queued", "Requests that wait for a thread", n_queued),
        ):
            Gauge(name, text, registry=self._registry).set_function(count)

    def refuse(self) -> None:
        """A request was turned away."""
        self._refused.inc()

    def record(self, result: object) -> None:
        """Stages and tokens of a response."""
        if isinstance(result, SearchResponse | AnswerResponse | GenerateResponse):
            for stage, spent_ms in result.timings_ms.items():
                self._stages.labels(stage).observe(spent_ms / 1000)
        if isinstance(result, AnswerResponse | GenerateResponse):
            self._count(result.usage, result.decode)

    async def count_response(self, message: Message, scope: Scope) -> None:
        """A hook before a message is sent: counts responses by route, not by what was asked."""
        if message["type"] == "http.response.start":
            path = scope.get("path_template") or "unmatched"
            self._responses.labels(path, str(message["status"])).inc()

    def route(self) -> HTTPRouteHandler:
        """The handler of `/metrics`."""

        @route(
            "/metrics",
            http_method=["GET", "HEAD"],
            sync_to_thread=False,
            opt={SCOPE_KEY: "read"},
        )
        def metrics() -> Response[bytes]:
            """Everything in Prometheus' text format."""
            headers = {"Content-Type": CONTENT_TYPE_LATEST}
            return Response(generate_latest(self._registry), headers=headers)

        return metrics

    def _count(self, usage: Usage, decode: DecodeReport) -> None:
        for kind, n_tokens in (
            ("prompt", usage.prompt_tokens),
            ("completion", usage.completion_tokens),
            ("drafted", decode.drafted),
            ("accepted", decode.accepted),
        ):
            self._tokens.labels(kind).inc(n_tokens)
