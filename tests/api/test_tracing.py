"""Spans: one a request below its caller's, one a stage below that; silent where nobody collects."""

import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.service import Service

trace = pytest.importorskip("opentelemetry.trace", reason="absent: opentelemetry (extra: otel)")
export = pytest.importorskip(
    "opentelemetry.sdk.trace.export", reason="absent: opentelemetry-sdk (extra: otel)"
)

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collected():
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_a_search_is_a_span_with_its_stages_below_the_callers(tiny_index, limits, collected):
    service = Service(tiny_index)
    with TestClient(create_app(service, limits)) as client:
        response = client.post(
            "/v1/search",
            json={"index": "tiny", "query": "penicillin"},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "r-7"},
        )
    service.close()
    assert response.status_code == 200
    spans = {span.name: span for span in collected.get_finished_spans()}
    whole = spans["POST /v1/search"]
    assert f"{whole.context.trace_id:032x}" == TRACE
    assert f"{whole.parent.span_id:016x}" == PARENT
    assert whole.attributes["evident.request_id"] == "r-7"
    assert whole.attributes["http.response.status_code"] == 200
    for stage in ("queue", "open", "encode", "search.bm25", "fuse", "fetch"):
        assert spans[stage].parent.span_id == whole.context.span_id
        assert spans[stage].start_time <= spans[stage].end_time
    assert not any("penicillin" in str(span.attributes) for span in spans.values())
