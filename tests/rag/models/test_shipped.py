from __future__ import annotations

from pathlib import Path

import pytest
from wheel_shelf import Shelf, model_contents, sha256, write_folder

from indexes.errors import ModelNotFound
from rag.models.catalogue import Entry
from rag.models.resolver import resolve
from rag.models.shipped import find_shipped, shipped


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for shipped models with one of them, upon the catalogue's tiny model."""
    place = tmp_path / "weights"
    contents = {**model_contents(), "config.json": b'{"base": "tiny"}'}
    write_folder(place / "corrected", contents)
    (place / "notes").mkdir()
    monkeypatch.setattr("rag.models.shipped._place", lambda: place)
    return place / "corrected"


def test_a_shipped_model_goes_by_its_name(ours: Path, tmp_path: Path) -> None:
    model = resolve("corrected", tmp_path / "cache")
    assert (model.name, model.folder, model.source) == ("corrected", ours, "shipped")
    assert model.sha256 == sha256(model_contents()["model.safetensors"])
    assert model.licence == "Apache-2.0"


def test_only_folders_with_a_configuration_are_shipped(ours: Path) -> None:
    assert [(one.name, one.base) for one in shipped()] == [("corrected", "tiny")]
    assert find_shipped("notes") is None


@pytest.mark.parametrize("name", ["", "..", ".", "../weights/corrected", "a/b"])
def test_a_name_is_no_path(ours: Path, name: str, tmp_path: Path) -> None:
    assert find_shipped(name) is None
    with pytest.raises(ModelNotFound):
        resolve("corrected/..x", tmp_path)


def test_download_brings_the_base_too(
    ours: Path,
    dense_entry: Entry,
    shelf: Shelf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "rag.models.resolver.find_entry", lambda name: dense_entry if name == "tiny" else None
    )
    cache = tmp_path / "cache"
    resolve("corrected", cache, download=True, environ=shelf.environ)
    assert resolve("tiny", cache).source == "wheels"
