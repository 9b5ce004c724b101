"""Keys: a matrix of every route and every key, made from the OpenAPI document; and their life."""

import json
import logging
import re
import stat

import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.gate import Gate
from rag.cli.main import main
from rag.keys import SCOPES, create_key, digest_of, holder, keys_file, read_keys, revoke_key

UNDOCUMENTED = {"/metrics": "read", "/": None, "/schema": None, "/schema/openapi.json": None}
HOLDERS = (None, "wrong", "revoked", *SCOPES)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def tokens(root):
    """A token for each holder of the matrix."""
    made = {scope: create_key(root, f"{scope}er", scope)[1] for scope in SCOPES}
    key, made["revoked"] = create_key(root, "former", "admin")
    revoke_key(root, key.id)
    return made | {"wrong": "evident_" + "x" * 43, None: None}


@pytest.fixture
def gated(service, limits, root):
    app = create_app(service, limits, Gate(root))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def bearer(token):
    return {"Authorization": f"Bearer {token}"} if token else {}


def routes(client):
    """(method, path, scope) of all that is served, the documented from the document."""
    document = client.get("/schema").json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            needed = [scope for way in operation["security"] for scope in way["key"]]
            yield method, path, needed[0] if needed else None
    for path, scope in UNDOCUMENTED.items():
        yield "get", path, scope


def expected(scope, holder):
    """The refusal that this key gets at a route of this scope, None when it may pass."""
    if scope is None:
        return None
    if holder not in SCOPES:
        return 401
    return None if SCOPES.index(holder) >= SCOPES.index(scope) else 403


def test_every_route_with_every_key(gated, tokens, is_problem):
    seen = set()
    for method, template, scope in routes(gated):
        path = re.sub(r"{\w+}", "few", template)
        for who in HOLDERS:
            response = gated.request(method, path, headers=bearer(tokens[who]))
            refusal = expected(scope, who)
            seen.add((scope, who, refusal))
            if refusal is None:
                assert response.status_code not in {401, 403}, (method, path, who)
                continue
            slug = {401: "key-needed", 403: "beyond-scope"}[refusal]
            is_problem(response, refusal, slug)
            if refusal == 401:
                assert response.headers["www-authenticate"] == "Bearer"
    assert {refusal for _, _, refusal in seen} == {None, 401, 403}
    assert {scope for scope, _, _ in seen} == {None, *SCOPES}


def test_every_documented_operation_says_what_it_needs(gated):
    for item in gated.get("/schema").json()["paths"].values():
        for operation in item.values():
            told = {"401", "403"} <= set(operation["responses"])
            assert told == bool(operation["security"])


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Basic {}", "bearer{}", "{}", "Bearer {}x", "Bearer x{}", "Bearer é"],
)
def test_what_is_no_key(gated, tokens, value):
    header = value.format(tokens["admin"]).encode("latin-1")
    assert gated.get("/v1/indexes", headers=[(b"authorization", header)]).status_code == 401


def test_without_keys_the_doors_are_open_until_one_is_made(gated, root):
    assert gated.get("/v1/indexes").status_code == 200
    key, token = create_key(root, "first", "read")
    assert gated.get("/v1/indexes").status_code == 401
    assert gated.get("/v1/indexes", headers=bearer(token)).status_code == 200
    revoke_key(root, key.id)
    assert gated.get("/v1/indexes", headers=bearer(token)).status_code == 401
    assert gated.get("/v1/indexes").status_code == 401
    keys_file(root).unlink()
    assert gated.get("/v1/indexes").status_code == 401


def test_a_setting_asks_for_keys_before_there_is_one(service, limits, root):
    with TestClient(create_app(service, limits, Gate(root, required=True))) as client:
        assert client.get("/v1/indexes").status_code == 401
        assert client.get("/livez").status_code == 200
        _, token = create_key(root, "first", "read")
        assert client.get("/v1/indexes", headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"id": 1}]', b"\xff"])
def test_keys_that_cannot_be_read_let_nobody_in(gated, root, tokens, content):
    keys_file(root).write_bytes(content)
    for _ in range(2):
        response = gated.get("/v1/indexes", headers=bearer(tokens["admin"]))
        assert response.status_code == 500
        assert str(root) not in response.text


def test_tokens_and_their_digests_are_never_told(gated, root, tokens, caplog):
    caplog.set_level(logging.DEBUG)
    told = []
    for method, template, _ in routes(gated):
        for who in HOLDERS:
            path = re.sub(r"{\w+}", "few", template)
            response = gated.request(method, path, headers=bearer(tokens[who]))
            told += [response.text, str(response.headers)]
    secrets = [token for token in tokens.values() if token]
    secrets += [key.sha256 for key in read_keys(root)]
    assert caplog.records
    for secret in secrets:
        assert secret not in "".join(told)
        assert secret not in caplog.text


def test_only_digests_are_kept_where_only_the_owner_can_look(root, tokens):
    content = keys_file(root).read_text()
    assert all(token not in content for token in tokens.values() if token)
    assert stat.S_IMODE(keys_file(root).parent.stat().st_mode) == 0o700
    assert len({key.sha256 for key in read_keys(root)}) == len(read_keys(root)) == 4


def test_every_key_is_compared_in_constant_time(root, tokens, monkeypatch):
    compared = []

    def compare(one, other):
        compared.append(other)
        return one == other

    monkeypatch.setattr("rag.keys.hmac.compare_digest", compare)
    keys = read_keys(root)
    assert holder(keys, tokens["read"]).scope == "read"
    assert compared == [digest_of(tokens["read"])] * len(keys)


def test_the_command_line(root, capsys):
    where = ["--root", str(root)]
    assert main(["keys", "create", "Ann", "--scope", "write", *where]) == 0
    shown = capsys.readouterr()
    token = shown.out.strip()
    assert token not in shown.err
    assert holder(read_keys(root), token).scope == "write"
    assert main(["keys", "create", "Bob", "--json", *where]) == 0
    bob = json.loads(capsys.readouterr().out)
    assert (bob["scope"], bob["name"], bob["revoked"]) == ("read", "Bob", "")
    assert main(["keys", "revoke", bob["id"], *where]) == 0
    assert holder(read_keys(root), bob["token"]) is None
    assert main(["keys", "list", "--json", *where]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row["name"] for row in rows] == ["Ann", "Bob"]
    assert rows[1]["revoked"]
    assert "sha256" not in rows[0]
    assert main(["keys", "list", *where]) == 0
    assert "revoked" in capsys.readouterr().out.splitlines()[1]
    assert main(["keys", "revoke", "nobody", *where]) == 1
    assert "nobody" in capsys.readouterr().err
