"""What Prometheus may scrape at `/metrics`: requests, stages, lines, caches, tokens.

Nothing of what was asked is in it. Where several workers serve (`rag serve --workers`), each keeps
its numbers in files of a folder that `PROMETHEUS_MULTIPROC_DIR` names, and whoever is scraped adds
them up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from litestar import Response, route
from litestar.handlers import HTTPRouteHandler
from litestar.types import Scope
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from api.endpoint import SCOPE_KEY
from api.lane import Lane
from indexes.bounded_cache import CacheState
from rag.answer import AnswerResponse, DecodeReport, Usage
from rag.compress.compression import CompressResponse
from rag.generating import GenerateResponse
from rag.search import SearchResponse
from rag.staged import Stage

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SHARES = tuple(tenth / 10 for tenth in range(1, 11))
SIZES = (1, 2, 4, 8, 16, 32)
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

TIMED = (SearchResponse, AnswerResponse, GenerateResponse, CompressResponse, Stage)
"""Responses that say what their stages took."""


class Metrics:
    """Owns the registry of one app. Fed by the event loop, and by threads only with batches."""

    def __init__(
        self, lanes: Sequence[Lane], cache_states: Callable[[], dict[str, CacheState]]
    ) -> None:
        self._registry = CollectorRegistry()
        self._cache_states = cache_states
        self._seen: dict[str, CacheState] = {}
        self._responses = self._counter("responses", "Responses", "path", "status")
        self._stages = self._histogram("stage_seconds", "Time of a stage", BUCKETS_S, "stage")
        self._requests = self._histogram(
            "request_seconds", "Time from a request to the end of its response", BUCKETS_S, "path"
        )
        self._tokens = self._counter("tokens", "Tokens", "kind")
        self._acceptance = self._histogram(
            "acceptance", "Share of a response's drafted tokens that stood", SHARES
        )
        self._batches = self._histogram("encode_batch", "Queries encoded together", SIZES)
        self._lookups = self._counter("cache_lookups", "Lookups in a cache", "cache", "outcome")
        self._cached = self._gauge("cache_bytes", "What a cache holds", "cache")
        self._refused = self._counter("refused", "Requests refused in a full line", "lane")
        self._running = self._gauge("running", "Requests that compute", "lane")
        self._queued = self._gauge("queued", "Requests that wait for a thread", "lane")
        for lane in lanes:
            lane.on_change = self._follow
            self._follow(lane)

    def refuse(self, lane: str) -> None:
        """A request was turned away."""
        self._refused.labels(lane).inc()

    def count_batch(self, size: int) -> None:
        """So many queries were encoded together."""
        self._batches.observe(size)

    def record(self, result: object) -> None:
        """Stages and tokens of a response, and how the caches do after it."""
        if isinstance(result, TIMED):
            for stage, spent_ms in result.timings_ms.items():
                self._stages.labels(stage).observe(spent_ms / 1000)
        if isinstance(result, AnswerResponse | GenerateResponse):
            self._count(result.usage, result.decode)
        for name, state in self._cache_states().items():
            self._count_lookups(name, state)

    def count_response(self, scope: Scope, status: int) -> None:
        """Count a response by route, not by what was asked."""
        self._responses.labels(_path(scope), str(status)).inc()

    def time_request(self, scope: Scope, seconds: float) -> None:
        """A response has ended."""
        self._requests.labels(_path(scope)).observe(seconds)

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
            return Response(generate_latest(self._read()), headers=headers)

        return metrics

    def _read(self) -> CollectorRegistry:
        """The app's numbers, or those of all workers."""
        if FOLDER not in os.environ:
            return self._registry
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return together

    def _follow(self, lane: Lane) -> None:
        self._running.labels(lane.name).set(lane.n_running)
        self._queued.labels(lane.name).set(lane.n_queued)

    def _count(self, usage: Usage, decode: DecodeReport) -> None:
        for kind, n_tokens in (
            ("prompt", usage.prompt_tokens),
            ("compressed", usage.compressed_tokens),
            ("completion", usage.completion_tokens),
            ("drafted", decode.drafted),
            ("accepted", decode.accepted),
        ):
            self._tokens.labels(kind).inc(n_tokens)
        if decode.drafted:
            self._acceptance.observe(decode.accepted / decode.drafted)

    def _count_lookups(self, name: str, state: CacheState) -> None:
        before = self._seen.get(name, CacheState())
        self._lookups.labels(name, "hit").inc(state.hits - before.hits)
        self._lookups.labels(name, "miss").inc(state.misses - before.misses)
        self._cached.labels(name).set(state.n_bytes)
        self._seen[name] = state

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"evident_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Its value over several workers is the sum over those that live."""
        return Gauge(
            f"evident_{name}", text, labels, registry=self._registry, multiprocess_mode="livesum"
        )

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"evident_{name}", text, labels, buckets=buckets, registry=self._registry)


def _path(scope: Scope) -> str:
    return str(scope.get("path_template") or "unmatched")
