"""`/metrics` counts what was served, and a full queue is answered with 429."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import pytest
from litestar.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app

SEARCHES = (("lane", "search"),)
ASKED = {"index": "few", "query": "penicillin"}


def samples(client):
    """(name, sorted labels) → value."""
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(response.text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_responses_stages_and_tokens_are_counted(service, limits):
    with TestClient(create_app(service, limits)) as client:
        for _ in range(3):
            assert client.post("/v1/search", json=ASKED).status_code == 200
        client.post("/v1/answer", json=ASKED | {"query": "SECRET penicillin"})
        client.post("/v1/search", json={"index": "absent", "query": "x"})
        client.get("/no/such/secret")
        found = samples(client)
        text = client.get("/metrics").text

    def responses(path, status):
        return found["evident_responses_total", (("path", path), ("status", status))]

    assert responses("/v1/search", "200") == 3
    assert responses("/v1/search", "404") == 1
    assert responses("/v1/answer", "200") == 1
    assert found["evident_stage_seconds_count", (("stage", "total"),)] == 4
    assert found["evident_request_seconds_count", (("path", "/v1/search"),)] == 4
    assert found["evident_encode_batch_count", ()] == 1
    lookups = {outcome: (("cache", "results"), ("outcome", outcome)) for outcome in ("hit", "miss")}
    assert found["evident_cache_lookups_total", lookups["hit"]] == 1
    assert found["evident_cache_lookups_total", lookups["miss"]] == 2
    assert found["evident_cache_bytes", (("cache", "results"),)] == 10
    assert found["evident_tokens_total", (("kind", "prompt"),)] == 0
    assert found["evident_running", SEARCHES] == 0
    assert "secret" not in text.lower()


def test_two_apps_do_not_share_counts(service, limits):
    with TestClient(create_app(service, limits)) as one:
        one.post("/v1/search", json=ASKED)
    with TestClient(create_app(service, limits)) as other:
        assert not [key for key in samples(other) if "/v1/search" in str(key)]


@pytest.fixture
def held(few_documents):
    """A service whose searches wait until they are let go."""

    class Held(few_documents):
        def __init__(self):
            super().__init__()
            self.go = threading.Event()

        def search(self, request, *, request_id):
            self.go.wait(30)
            return super().search(request, request_id=request_id)

    return Held()


def test_a_full_queue_is_refused_and_the_rest_is_served(
    held, limits, live_server, until, is_problem
):
    small = msgspec.structs.replace(limits, max_searches=1, max_search_queue=2)
    with (
        live_server(held, small) as live,
        ThreadPoolExecutor(3) as pool,
        httpx.Client(base_url=live.url) as client,
    ):
        waiting = [
            pool.submit(httpx.post, f"{live.url}/v1/search", json=ASKED, timeout=30)
            for _ in range(3)
        ]
        until(lambda: samples(client)["evident_queued", SEARCHES] == 2)
        assert samples(client)["evident_running", SEARCHES] == 1
        response = client.post("/v1/search", json=ASKED)
        is_problem(response, 429, "overloaded")
        assert response.headers["retry-after"] == "1"
        held.go.set()
        assert [one.result().status_code for one in waiting] == [200] * 3
        assert client.post("/v1/search", json=ASKED).status_code == 200
        assert samples(client)["evident_refused_total", SEARCHES] == 1
