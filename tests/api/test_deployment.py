"""Dockerfile and compose file: parsed and checked against the code, for want of an engine."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from api.server import GRACE_S
from rag.config import FIELDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

TEXTS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "anyOf": [{"required": ["image"]}, {"required": ["build"]}],
    "properties": {
        "build": {"type": "string"},
        "image": {"type": "string", "pattern": r"^[a-z0-9./_-]+(:[\w.-]+)?$"},
        "profiles": TEXTS,
        "command": TEXTS,
        "ports": TEXTS | {"items": {"type": "string", "pattern": r"^([\d.]+:)?\d+:\d+$"}},
        "environment": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "null"]},
        },
        "volumes": TEXTS | {"items": {"type": "string", "pattern": r"^[^:]+:/[^:]*(:ro|:rw)?$"}},
        "tmpfs": TEXTS,
        "read_only": {"type": "boolean"},
        "cap_drop": TEXTS,
        "security_opt": TEXTS,
        "init": {"type": "boolean"},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "stop_grace_period": {"type": "string", "pattern": r"^(\d+(ms|s|m|h))+$"},
        "depends_on": TEXTS,
    },
}
COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["services"],
    "properties": {
        "name": {"type": "string"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
    },
}
"""The part of the Compose specification's schema that our file uses, and nothing beside it."""


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def instructions():
    """The Dockerfile's instructions: (keyword, rest), continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#"]
    return [(keyword, rest) for keyword, rest in lines]


def test_compose_serves_on_loopback_with_a_declared_volume(compose):
    api = compose["services"]["api"]
    assert api["command"][0] == "serve"
    assert api["ports"] == ["127.0.0.1:8080:8080"]
    names = {volume.partition(":")[0] for volume in api["volumes"]}
    assert names <= set(compose["volumes"])
    assert int(api["stop_grace_period"].removesuffix("s")) > GRACE_S


def test_compose_and_image_agree(compose, instructions):
    (command,) = [rest for keyword, rest in instructions if keyword == "CMD"]
    assert yaml.safe_load(command) == compose["services"]["api"]["command"]
    (volume,) = [rest for keyword, rest in instructions if keyword == "VOLUME"]
    assert compose["services"]["api"]["volumes"] == [f"data:{volume}"]


def test_compose_is_as_its_schema_says(compose):
    jsonschema.validate(compose, COMPOSE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"services": {"api": {"imagee": "x"}}},
        {"services": {"api": {"ports": "8080"}}},
        {"services": {"api": {"image": "x", "restart": "sometimes"}}},
        {"servces": {}},
        {"services": {"api": {"image": "x", "stop_grace_period": "soon"}}},
    ],
)
def test_the_schema_sees_what_is_wrong(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, COMPOSE)


def test_what_is_mounted_and_depended_on_is_there(compose):
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists(), volume
        assert set(service.get("depends_on", [])) <= set(compose["services"])
        assert service["cap_drop"] == ["ALL"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_the_dashboard_asks_for_metrics_that_there_are(client):
    client.post("/v1/search", json={"index": "few", "query": "penicillin"})
    families = text_string_to_metric_families(client.get("/metrics").text)
    known = {family.name for family in families}
    board = json.loads((DEPLOY / "grafana/dashboards/evident.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    named = {name for expr in asked for name in re.findall(r"evident_\w+", expr)}
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in named} <= known
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == datasource()["uid"]


def test_grafana_and_prometheus_find_each_other_and_the_api(compose):
    host, port = re.fullmatch(r"http://([a-z]+):(\d+)", datasource()["url"]).groups()
    assert (host in compose["services"], port) == (True, "9090")
    jobs = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert jobs[0]["static_configs"][0]["targets"] == ["api:8080"]
    (provider,) = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/dashboards/evident.yml").read_text()
    )["providers"]
    mounts = dict(
        reversed(volume.split(":")[:2]) for volume in compose["services"]["grafana"]["volumes"]
    )
    assert mounts[provider["options"]["path"]] == "./deploy/grafana/dashboards"


def datasource():
    file = DEPLOY / "grafana/provisioning/datasources/prometheus.yml"
    return yaml.safe_load(file.read_text())["datasources"][0]


def test_the_image_runs_without_rights_and_watches_a_path_that_is_served(instructions, client):
    users = [rest for keyword, rest in instructions if keyword == "USER"]
    assert users == ["evident"]
    (health,) = [rest for keyword, rest in instructions if keyword == "HEALTHCHECK"]
    path = re.search(r":8080(/\w+)", health)[1]
    assert client.get(path).status_code == 200


def test_the_image_is_made_of_what_exists(instructions):
    copied = [rest.split()[:-1] for keyword, rest in instructions if keyword == "COPY"]
    sources = [source for sources in copied for source in sources if source[0] != "-"]
    absent = [s for s in sources if not s.startswith("/") and not (ROOT / s).exists()]
    assert absent == []


def test_the_image_sets_only_settings_that_there_are(instructions):
    environment = " ".join(rest for keyword, rest in instructions if keyword == "ENV")
    named = {name.lower() for name in re.findall(r"RAG_(\w+)=", environment)}
    assert named
    assert named <= set(FIELDS)
