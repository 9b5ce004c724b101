"""The API over the real service and a real index on disk."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from litestar.testing import TestClient

from api.app import create_app
from indexes.library import index_folder
from rag.progress import Silent
from rag.service import Service
from rag.update import update_index


@pytest.fixture(scope="module")
def service(tiny_index):
    service = Service(tiny_index)
    yield service
    service.close()


@pytest.fixture(scope="module")
def client(service, limits):
    with TestClient(create_app(service, limits), raise_server_exceptions=False) as client:
        yield client


def search(client, query, **more):
    return client.post("/v1/search", json={"index": "tiny", "query": query} | more)


def ids(response):
    assert response.status_code == 200, response.text
    return [hit["id"] for hit in response.json()["hits"]]


def test_search_finds_and_tells_where(client):
    response = search(client, "who discovered penicillin?", explain=True)
    assert ids(response)[0] == "penicillin"
    found = response.json()
    assert found["index"] == "tiny"
    assert found["index_version"] >= 1
    assert found["timings_ms"]["total"] > 0
    hit = found["hits"][0]
    assert hit["scores"]["bm25"]["rank"] == 1
    assert any(term["term"].startswith("penicillin") for term in hit["matched_terms"])


def test_filters_paging_and_right_to_left_text(client):
    medicine = {"must": [{"field": "year", "range": {"gte": 1900}}]}
    assert ids(search(client, "discovered", filter=medicine)) == ["penicillin"]
    both = ids(search(client, "discovered"))
    assert ids(search(client, "discovered", limit=1, offset=1)) == both[1:2]
    assert ids(search(client, "البنسلين")) == ["../🧫"]


@pytest.mark.parametrize("query", ["", "the of and", "🧫", "\u0000", "\u202e", "x" * 100_000])
def test_odd_queries_are_answered(client, query):
    assert search(client, query).status_code == 200


def test_what_the_index_does_not_have(client, is_problem):
    is_problem(search(client, "x", index="absent"), 404, "index-not-found")
    response = search(client, "x", retrievers=[{"name": "splade"}])
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    twice = search(client, "x", retrievers=[{"name": "bm25"}, {"name": "bm25"}])
    assert twice.status_code == 422


@pytest.mark.parametrize(
    "condition",
    [
        {"field": "year"},
        {"field": "year", "match": 1, "exists": True},
        {"field": "' OR read_csv('/etc/passwd') --", "match": "x"},
        {"field": "year", "match": "'; DROP TABLE documents; --"},
        {"field": "year", "range": {}},
        {"field": "\u0000", "exists": True},
        {"field": "year", "range": {"gte": "zzz", "lt": 5}},
    ],
)
def test_odd_filters_never_break_the_server(client, condition):
    response = search(client, "discovered", filter={"must": [condition]})
    assert response.status_code in {200, 422}, response.text
    assert ids(search(client, "discovered"))


def test_indexes_and_info(client):
    assert client.get("/v1/indexes").json()["indexes"] == ["tiny"]
    described = client.get("/v1/indexes/tiny").json()
    assert described["info"]["n_documents"] == 3
    able = client.get("/v1/info").json()["service"]
    assert able["name"] == "evident-rag"
    assert {"auto", "rapid"} <= set(able["decoding"])
    assert {"citation", "quote", "numbers", "names"} <= set(able["monitors"])
    assert "lossless" in able["verifiers"]
    assert able["faithful"] == ["off", "cad", "adacad", "cfb"]


def test_without_evidence_no_model_is_needed(client):
    response = client.post("/v1/answer", json={"index": "tiny", "query": "zebra crossings"})
    assert response.status_code == 200
    assert response.json()["status"] == "no_evidence"
    assert response.json()["answer"] == ""


def test_a_generator_that_cannot_be_had_is_a_503_without_its_path(client, tiny_index, is_problem):
    asked = {"index": "tiny", "query": "who discovered penicillin?", "min_evidence": 0}
    response = client.post("/v1/answer", json=asked)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert str(tiny_index.cache) not in response.text


def test_a_deadline_that_has_passed_is_a_504(client, is_problem):
    # Every passage is read for evidence: more than a millisecond's work is asked many times over.
    responses = [search(client, "discovered " * 15_000, timeout_ms=1) for _ in range(3)]
    for response in responses:
        is_problem(response, 504, "deadline-exceeded")


def test_many_clients_get_what_one_gets(client):
    queries = ["penicillin", "radium", "discovered", "البنسلين"] * 10
    alone = {query: ids(search(client, query)) for query in set(queries)}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda query: ids(search(client, query)), queries))
    assert together == [alone[query] for query in queries]


def test_a_commit_is_seen_by_the_next_request(client, tiny_index, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"id": "insulin", "text": "Insulin was isolated in 1921."}) + "\n")
    before = client.get("/v1/indexes/tiny").json()["info"]["version"]
    assert ids(search(client, "insulin")) == []
    update_index("tiny", [more], tmp_path / "rejects.jsonl", tiny_index, Silent())
    assert ids(search(client, "insulin")) == ["insulin"]
    assert client.get("/v1/indexes/tiny").json()["info"]["version"] > before


def test_a_damaged_index_is_told_apart_from_the_others(client, tiny_index, is_problem):
    damaged = index_folder(tiny_index.root, "damaged")
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{not json")
    is_problem(client.get("/v1/indexes/damaged"), 500, "corrupt-index")
    assert ids(search(client, "radium"))
    (damaged / "manifest.json").unlink()
    damaged.rmdir()
