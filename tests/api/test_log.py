"""The log: JSON lines that carry request ids, and no line that carries a secret."""

import json
import logging
import subprocess
import sys

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.log import REDACTED, JsonLines, TextLines, redacted
from api.request_id import CURRENT
from rag.keys import create_key

KEY_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


def line_of(formatter, message, *args, **extra):
    record = logging.makeLogRecord(
        {"msg": message, "args": args, "levelname": "INFO", "name": "x"} | extra
    )
    return formatter.format(record)


def test_a_line_is_one_json_object_with_what_is_known():
    line = line_of(JsonLines(), "a\nb %d", 7, request_id="r-1", status=200, ms=1.5)
    assert "\n" not in line
    found = json.loads(line)
    assert found["message"] == "a\nb 7"
    assert (found["request_id"], found["status"], found["ms"]) == ("r-1", 200, 1.5)
    assert found["level"] == "info"


def test_the_request_of_the_context_is_named():
    token = CURRENT.set("r-2")
    try:
        assert json.loads(line_of(JsonLines(), "x"))["request_id"] == "r-2"
    finally:
        CURRENT.reset(token)
    assert "request_id" not in json.loads(line_of(JsonLines(), "x"))


def test_an_error_keeps_its_trace():
    try:
        int("evident_" + "k" * 43)
    except ValueError:
        line = line_of(JsonLines(), "failed", exc_info=sys.exc_info())
    found = json.loads(line)
    assert "ValueError: invalid literal" in found["error"]
    assert "k" * 20 not in line


@given(st.text(), st.text(KEY_CHARS, min_size=20, max_size=60), st.text())
def test_keys_and_bearers_never_pass(before, secret, after):
    for told in (f"{before} evident_{secret} {after}", f"{before} Bearer {secret} {after}"):
        assert f" evident_{secret}" not in redacted(told)
        assert f"Bearer {secret}" not in redacted(told)
        assert REDACTED in redacted(told)


@given(st.text(alphabet=st.characters(exclude_characters="_")))
def test_other_text_passes_as_it_is(text):
    if "bearer" not in text.lower():
        assert redacted(text) == text


def test_real_keys_look_like_secrets(tmp_path):
    _, token = create_key(tmp_path, "Ann", "read")
    assert token not in line_of(TextLines("%(message)s"), "got %s", token)


@pytest.mark.slow
def test_serve_logs_json(tmp_path):
    command = [sys.executable, "-m", "rag.cli.main", "serve", "--port", "0", "--log-format", "json"]
    where = ["--root", str(tmp_path / "root"), "--cache", str(tmp_path)]
    with subprocess.Popen([*command, *where], stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:
                said = json.loads(line)
                if said["message"].startswith("serving on "):
                    url = said["message"].removeprefix("serving on ")
                    break
            httpx.get(f"{url}/livez", headers={"X-Request-ID": "my-id"})
            process.terminate()
            lines = [json.loads(line) for line in process.stderr]
        finally:
            process.kill()
    (seen,) = [line for line in lines if line.get("path") == "/livez"]
    assert seen["request_id"] == "my-id"
    assert (seen["method"], seen["status"]) == ("GET", 200)
    assert seen["ms"] >= 0
