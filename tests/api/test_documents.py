"""One document over REST, on a real index: put, read, found at once, replaced, deleted, gone."""

from concurrent.futures import ThreadPoolExecutor
from shutil import copytree
from urllib.parse import quote

import msgspec
import pytest
from litestar.testing import TestClient

from api.app import create_app
from indexes.library import index_folder
from indexes.writer import IndexWriter
from rag.service import Service


@pytest.fixture
def settings(tiny_index, tmp_path):
    copytree(tiny_index.root, tmp_path / "indexes")
    return msgspec.structs.replace(tiny_index, root=tmp_path / "indexes")


@pytest.fixture
def client(settings, limits):
    service = Service(settings)
    with TestClient(create_app(service, limits), raise_server_exceptions=False) as client:
        yield client
    service.close()


def url(key):
    return f"/v1/indexes/tiny/documents/{quote(key, safe='')}"


def found(client, query):
    response = client.post("/v1/search", json={"index": "tiny", "query": query})
    assert response.status_code == 200, response.text
    return [hit["id"] for hit in response.json()["hits"]], response.json()["index_version"]


@pytest.mark.parametrize("key", ["plain", "a/b", "../..", "with space?#%", "🧫", "d" * 512])
def test_the_life_of_a_document(client, key):
    body = {"title": "Aardvark", "text": "The aardvark digs at night.", "metadata": {"legs": 4}}
    put = client.put(url(key), json=body)
    assert put.status_code == 200, put.text
    version = put.json()["index_version"]
    assert put.json()["id"] == key
    assert found(client, "aardvark") == ([key], version)
    got = client.get(url(key)).json()
    assert got["document"] == {"id": key} | body
    again = client.put(url(key), json={"text": "The quagga grazed."})
    assert again.json()["index_version"] == version + 1
    assert again.json()["n_documents"] == put.json()["n_documents"]
    assert found(client, "aardvark")[0] == []
    assert found(client, "quagga")[0] == [key]
    gone = client.delete(url(key))
    assert gone.status_code == 200
    assert found(client, "quagga") == ([], version + 2)
    assert client.get(url(key)).status_code == 404
    assert client.delete(url(key)).status_code == 404


def test_what_cannot_be_put(client, is_problem):
    is_problem(client.put(url("x"), json={"text": " "}), 422, "invalid-input")
    is_problem(client.put(url("x"), json={"text": "a\0b"}), 422, "invalid-input")
    is_problem(client.put(url("x" * 513), json={"text": "a"}), 422, "invalid-input")
    is_problem(client.put(url("x"), json={"id": "y", "text": "a"}), 422, "invalid-input")
    is_problem(
        client.put("/v1/indexes/absent/documents/x", json={"text": "a"}), 404, "index-not-found"
    )
    is_problem(client.get("/v1/indexes/tiny/documents/%ff"), 404, "document-not-found")


def test_another_process_writing_is_a_conflict(client, settings, is_problem):
    with IndexWriter(index_folder(settings.root, "tiny")):
        is_problem(client.put(url("x"), json={"text": "a"}), 409, "index-locked")
        is_problem(client.delete(url("penicillin")), 409, "index-locked")
    assert client.put(url("x"), json={"text": "a"}).status_code == 200


@pytest.mark.slow
def test_many_at_once_are_all_there(client):
    def put(n):
        return client.put(url(f"d{n}"), json={"text": f"zebra number{n}"}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put, range(12))) == {200}
    response = client.post("/v1/search", json={"index": "tiny", "query": "zebra", "limit": 50})
    assert {hit["id"] for hit in response.json()["hits"]} == {f"d{n}" for n in range(12)}
