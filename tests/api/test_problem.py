"""Failures: every class of the tree has a status, and nothing internal leaks."""

import json
import logging

import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.problem import STATUS
from indexes import errors
from indexes.errors import CorruptIndex, DeadlineExceeded, EvidentError, InvalidInput

QUERY = {"index": "few", "query": "radium"}


def tree(root):
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def test_every_error_of_the_tree_has_a_status_and_none_is_left_over():
    here = {error.problem for error in tree(EvidentError) if error.__module__ == errors.__name__}
    assert here == set(STATUS)


@pytest.fixture
def failing(few_documents, limits):
    """A client of a service whose search raises the given error."""

    def client(error):
        class Failing(few_documents):
            def search(self, request, *, request_id):
                raise error

        return TestClient(create_app(Failing(), limits), raise_server_exceptions=False)

    return client


def test_an_unforeseen_exception_is_a_500_that_tells_nothing_and_logs_all(
    failing, is_problem, caplog
):
    with failing(ZeroDivisionError("/secret/path")) as client, caplog.at_level(logging.INFO):
        response = client.post("/v1/search", json=QUERY, headers={"X-Request-ID": "mine-1"})
    problem = is_problem(response, 500, "internal-error")
    assert "secret" not in response.text
    assert problem["request_id"] == "mine-1"
    (record,) = [r for r in caplog.records if r.name == "api.problem"]
    assert "mine-1" in record.message
    assert "ZeroDivisionError: /secret/path" in caplog.text


def test_words_of_a_damaged_index_stay_in_the_log(failing, is_problem, caplog):
    with failing(CorruptIndex("/data/indexes/few/segment-1 is damaged")) as client:
        response = client.post("/v1/search", json=QUERY)
    is_problem(response, 500, "corrupt-index")
    assert "segment-1" not in response.text
    assert "segment-1" in caplog.text


def test_words_of_a_deadline_are_shown(failing, is_problem):
    with failing(DeadlineExceeded("the 5 ms ran out")) as client:
        problem = is_problem(client.post("/v1/search", json=QUERY), 504, "deadline-exceeded")
    assert problem["detail"] == "the 5 ms ran out"


def test_a_rule_of_the_domain_keeps_its_pointer(failing, is_problem):
    with failing(InvalidInput("give exactly one test", "/filter/must/0")) as client:
        problem = is_problem(client.post("/v1/search", json=QUERY), 422, "invalid-input")
    assert problem["errors"] == [{"pointer": "/filter/must/0", "detail": "give exactly one test"}]


def test_unknown_routes(client, is_problem):
    problem = is_problem(client.get("/v1/nope%0aline"), 404, "not-found")
    assert problem["instance"] == "/v1/nope%0Aline"
    is_problem(client.get("/nothing"), 404, "not-found")
    is_problem(client.get("/v1/indexes/few/documents/1"), 404, "document-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/search", {"POST", "OPTIONS"}),
        ("HEAD", "/v1/answer", {"POST", "OPTIONS"}),
        ("DELETE", "/v1/indexes/few", {"GET", "HEAD", "OPTIONS"}),
        ("BREW", "/livez", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_wrong_methods_say_what_is_allowed(client, method, path, allowed):
    response = client.request(method, path)
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == allowed
    assert response.headers["content-type"] == "application/problem+json"


def test_options_lists_the_methods(client):
    response = client.options("/v1/search")
    assert response.status_code == 204
    assert set(response.headers["allow"].split(", ")) == {"POST", "OPTIONS"}


def test_a_problem_is_json_with_all_its_members(client):
    problem = json.loads(client.post("/v1/search", content=b"").content)
    members = {"type", "title", "status", "detail", "instance", "request_id", "errors"}
    assert set(problem) == members
