"""The OpenAPI document says what is served, and nothing else."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from litestar.routes import HTTPRoute

from api.app import create_app
from api.body import decode
from api.describe import described
from api.endpoint import OPT_KEY
from api.openapi import openapi_document

UNDOCUMENTED = {"/", "/metrics", "/schema", "/schema/openapi.json"}


@pytest.fixture
def document(client):
    return client.get("/schema/openapi.json").json()


def test_it_is_served_under_both_names(client):
    assert client.get("/schema").content == client.get("/schema/openapi.json").content
    assert client.get("/schema").headers["content-type"] == "application/json"


def test_it_names_no_outside_asset(document):
    assert "://" not in json.dumps(document)


def test_every_route_is_documented(client, document):
    served = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in client.app.routes
        if isinstance(route, HTTPRoute)
        for method in set(route.methods) - {"HEAD", "OPTIONS"}
        if route.path not in UNDOCUMENTED
    }
    told = {(path, method) for path, item in document["paths"].items() for method in item}
    assert told == served


def test_operations_are_named_once(document):
    names = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere(document):
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        found = document
        for step in reference.split("/"):
            found = found[step]
        assert found


def test_every_operation_declares_its_problems(document):
    for item in document["paths"].values():
        for operation in item.values():
            assert "500" in operation["responses"]
            if "requestBody" in operation:
                assert {"400", "413", "415", "422"} <= set(operation["responses"])
    for response in document["components"]["responses"].values():
        schema = response["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Problem"}


def test_every_example_is_a_request_that_is_accepted(client, limits):
    seen = 0
    for route in client.app.routes:
        for handler in getattr(route, "route_handlers", ()):
            endpoint = handler.opt.get(OPT_KEY)
            for example in endpoint.examples.values() if endpoint else ():
                body = msgspec.json.encode(example)
                assert isinstance(
                    decode(body, endpoint.request, limits.max_json_depth), endpoint.request
                )
                seen += 1
    assert seen >= 4


def test_bounds_in_the_document_are_those_of_the_structs(document):
    limit = document["components"]["schemas"]["SearchRequest"]["properties"]["limit"]
    assert limit == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10}
    assert "index" not in document["components"]["schemas"]["SearchInIndexRequest"]["required"]


def test_the_same_routes_give_the_same_bytes(service, limits):
    one, other = (
        msgspec.json.encode(openapi_document(create_app(service, limits).routes, "1"))
        for _ in range(2)
    )
    assert one == other


def test_the_committed_document_is_the_generated_one():
    committed = Path(__file__).parents[2] / "openapi.json"
    told = "run: python -m api.describe > openapi.json"
    assert committed.read_bytes() == described(), told
