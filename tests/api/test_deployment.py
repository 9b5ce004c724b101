"""Dockerfile and compose file: parsed and checked against the code, for want of an engine."""

import re
from pathlib import Path

import pytest
import yaml

from api.server import GRACE_S
from rag.config import FIELDS

ROOT = Path(__file__).parents[2]


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
