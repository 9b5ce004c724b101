"""Aliases over REST, on real indexes."""

from shutil import copytree

import msgspec
import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.service import Service


@pytest.fixture
def client(tiny_index, tmp_path, limits):
    copytree(tiny_index.root, tmp_path / "indexes")
    service = Service(msgspec.structs.replace(tiny_index, root=tmp_path / "indexes"))
    with TestClient(create_app(service, limits), raise_server_exceptions=False) as client:
        yield client
    service.close()


def search(client, index):
    return client.post("/v1/search", json={"index": index, "query": "radium"})


def test_the_life_of_an_alias(client):
    assert search(client, "current").status_code == 404
    put = client.put("/v1/aliases/current", json={"index": "tiny"})
    assert (put.json()["alias"], put.json()["index"]) == ("current", "tiny")
    assert search(client, "current").json()["hits"] == search(client, "tiny").json()["hits"]
    assert client.get("/v1/indexes/current").json()["info"]["name"] == "tiny"
    listed = client.get("/v1/indexes").json()
    assert (listed["indexes"], listed["aliases"]) == (["tiny"], {"current": "tiny"})
    document = client.put("/v1/indexes/current/documents/x", json={"text": "an aardvark"})
    assert document.status_code == 200
    assert client.get("/v1/indexes/tiny/documents/x").status_code == 200
    gone = client.delete("/v1/aliases/current")
    assert gone.json()["index"] is None
    assert search(client, "current").status_code == 404
    assert search(client, "tiny").status_code == 200


def test_what_no_alias_can_be(client, is_problem):
    is_problem(client.put("/v1/aliases/tiny", json={"index": "tiny"}), 422, "usage")
    is_problem(client.put("/v1/aliases/x", json={"index": "absent"}), 404, "index-not-found")
    is_problem(client.put("/v1/aliases/x", json={"index": "../x"}), 422, "invalid-input")
    is_problem(client.put("/v1/aliases/..%2fx", json={"index": "tiny"}), 404, "not-found")
    is_problem(client.put("/v1/aliases/UP", json={"index": "tiny"}), 404, "index-not-found")
    is_problem(client.delete("/v1/aliases/x"), 404, "index-not-found")
