"""Health, information, indexes and request identifiers."""

import socket

import pytest
from litestar.testing import TestClient

from api.app import create_app


def test_livez_needs_nothing_and_readyz_needs_the_models(service, limits, is_problem, until):
    service.may_load.clear()
    with TestClient(create_app(service, limits)) as client:
        assert client.get("/livez").json()["status"] == "alive"
        response = client.get("/readyz")
        is_problem(response, 503, "not-ready")
        assert response.headers["retry-after"] == "1"
        service.may_load.set()
        until(service.ready)
        assert client.get("/readyz").json()["status"] == "ready"


def test_models_that_cannot_be_loaded_leave_the_service_alive_and_not_ready(
    few_documents, limits, is_problem, until, caplog
):
    class Unloadable(few_documents):
        def warm_up(self):
            raise OSError("no such model")

    with TestClient(create_app(Unloadable(), limits)) as client:
        until(lambda: "no such model" in caplog.text)
        assert client.get("/livez").status_code == 200
        is_problem(client.get("/readyz"), 503, "not-ready")


def test_info_tells_the_limits(client, limits):
    told = client.get("/v1/info").json()
    assert told["limits"]["max_body_bytes"] == limits.max_body_bytes
    assert told["service"]["name"] == "evident-rag"


def test_indexes(client, is_problem):
    assert client.get("/v1/indexes").json()["indexes"] == ["few"]
    assert client.get("/v1/indexes/few").json()["info"]["n_documents"] == 3
    is_problem(client.get("/v1/indexes/absent"), 404, "index-not-found")


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc", "%2e%2e", "Few", "few%00", "few%0a", "-few", "f" * 65, "ｆew", "fe w"]
)
def test_names_that_no_index_can_bear(client, is_problem, name):
    response = client.get(f"/v1/indexes/{name}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    posted = client.post(f"/v1/indexes/{name}/search", json={"query": "x"})
    assert posted.status_code == 404


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/v1/info", "/v1/indexes", "/v1/indexes/few"]
)
def test_head_is_get_without_the_body(client, path):
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


def test_a_well_formed_request_id_is_kept(client):
    response = client.get("/livez", headers={"X-Request-ID": "a.B-c_9"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "a.B-c_9"


@pytest.mark.parametrize("offered", ["", "a b", "é", "x" * 129, "<script>", "a\tb"])
def test_any_other_request_id_is_replaced(client, offered):
    response = client.get("/livez", headers=[(b"x-request-id", offered.encode())])
    kept = response.headers.get_list("x-request-id")
    assert len(kept) == 1
    assert len(kept[0]) == 32
    assert kept[0] != offered


def test_requests_get_different_ids_also_on_errors(client):
    paths = ["/livez", "/livez", "/nope", "/v1/search"]
    assert len({client.get(path).headers["x-request-id"] for path in paths}) == len(paths)


def test_a_way_out_is_noticed():
    with socket.socket() as one, pytest.raises(AssertionError, match="a way out"):
        one.connect(("192.0.2.1", 80))
