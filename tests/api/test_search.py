"""`/v1/search` and its aliases."""

import pytest

JSON = {"content-type": "application/json"}
PATHS = ["/v1/search", "/search", "/v1/indexes/few/search"]


@pytest.mark.parametrize("path", PATHS)
def test_search_is_the_same_under_each_of_its_names(client, path):
    response = client.post(path, json={"index": "few", "query": "penicillin"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    found = response.json()
    assert [hit["id"] for hit in found["hits"]] == ["penicillin"]
    assert found["index"] == "few"
    assert found["request_id"] == response.headers["x-request-id"]


def test_the_path_names_the_index(client, is_problem):
    path = "/v1/indexes/few/search"
    assert client.post(path, json={"query": "radium"}).json()["index"] == "few"
    problem = is_problem(
        client.post(path, json={"index": "other", "query": "x"}), 422, "invalid-input"
    )
    assert problem["errors"][0]["pointer"] == "/index"


def test_an_empty_result_is_a_success(client):
    response = client.post("/v1/search", json={"index": "few", "query": "zebra"})
    assert response.status_code == 200
    assert response.json()["hits"] == []


@pytest.mark.parametrize(
    "query", ["", "🧫", "البنسلين", "\u0000", "radium " * 15_000, "the of and"]
)
def test_odd_queries_are_answered(client, query):
    assert client.post("/v1/search", json={"index": "few", "query": query}).status_code == 200


def test_unknown_index(client, is_problem):
    asked = {"index": "absent", "query": "x"}
    is_problem(client.post("/v1/search", json=asked), 404, "index-not-found")
    asked.pop("index")
    is_problem(client.post("/v1/indexes/absent/search", json=asked), 404, "index-not-found")


@pytest.mark.parametrize("path", PATHS)
def test_unreadable_bodies(client, is_problem, path):
    def sent(content, **headers):
        return client.post(path, content=content, headers=JSON | headers)

    is_problem(sent(b'{"query":"\xff"}'), 400, "malformed-input")
    is_problem(sent(b"[" * 100_000), 400, "malformed-input")
    is_problem(sent(b'{"a":' * 50_000), 400, "malformed-input")
    is_problem(sent(b""), 400, "malformed-input")
    is_problem(sent(b"null"), 422, "invalid-input")
    is_problem(sent(b'{"query":7}'), 422, "invalid-input")
    is_problem(sent(b'{"query":"x","top_k":7}'), 422, "invalid-input")
    is_problem(sent(b'{"query":"%s"}' % (b"x" * 200_001)), 422, "invalid-input")
    is_problem(sent(b'{"query":"%s"}' % (b"x" * 300_000)), 413, "too-large")


def test_a_body_that_does_not_tell_its_length_is_capped_too(client, is_problem):
    chunks = (b" " * 1000 for _ in range(1000))
    response = client.post("/v1/search", content=chunks, headers=JSON)
    is_problem(response, 413, "too-large")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": ""},
        {"content-type": "application/jsonp"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_other_media_types_are_refused(client, is_problem, headers):
    body = b'{"index":"few","query":"x"}'
    response = client.post("/v1/search", content=body, headers=headers)
    is_problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", 'application/json; charset="UTF-8"'],
)
def test_json_in_utf8_is_accepted_however_it_is_spelt(client, content_type):
    body = b'{"index":"few","query":"x"}'
    response = client.post("/v1/search", content=body, headers={"content-type": content_type})
    assert response.status_code == 200


def test_the_same_request_gives_the_same_bytes(client):
    sent = [
        client.post(
            "/v1/search",
            json={"index": "few", "query": "discovered"},
            headers={"X-Request-ID": "same"},
        ).content
        for _ in range(3)
    ]
    assert len(set(sent)) == 1
