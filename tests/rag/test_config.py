"""Flag > environment > file > default, and nothing unknown gets in."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexes.errors import UsageError
from rag.config import load_settings


def test_precedence(tmp_path):
    file = tmp_path / "rag.toml"
    file.write_text('port = 1111\ngenerator = "from-file"\nn_threads = 3\n')
    environ = {"RAG_PORT": "2222", "RAG_GENERATOR": "from-env", "HOME": "/"}
    settings = load_settings({"port": "3333", "device": None}, environ, file)
    assert (settings.port, settings.generator, settings.n_threads) == (3333, "from-env", 3)
    assert load_settings({}, {}).port == 8080


def test_paths_expand(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert load_settings({"root": "~/x"}, {}).root == Path("/somewhere/x")


@pytest.mark.parametrize(
    ("content", "environ", "named"),
    [
        ("prot = 1\n", {}, "prot"),
        ('port = "80"\n', {}, "port"),
        ("port = 99999\n", {}, "65535"),
        ("port = \n", {}, "TOML"),
        ("", {"RAG_PROT": "1"}, "prot"),
        ("", {"RAG_PORT": "many"}, "port"),
    ],
)
def test_wrong_settings_are_named(tmp_path, content, environ, named):
    file = tmp_path / "rag.toml"
    file.write_text(content)
    with pytest.raises(UsageError, match=named):
        load_settings({}, environ, file)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        load_settings({}, {}, tmp_path / "absent.toml")
