from __future__ import annotations

from collections import Counter
from importlib import resources

import msgspec
import pytest

from indexes.errors import ModelNotFound
from rag.models.catalogue import (
    DEFAULT_MODELS,
    DEMO_CORPUS,
    catalogue,
    find_entry,
    get_entry,
    parse_catalogue,
)
from rag.models.wheel import check_name

PUBLISHED = {
    "smollm2-135m-instruct",
    "qwen2.5-coder-0.5b-instruct",
    "qwen2.5-coder-1.5b-instruct",
    "gemma3-270m",
    "splade-tiny",
    "all-minilm-l6-v2",
    "all-mpnet-base-v2",
}


def source() -> str:
    return resources.files("rag.models").joinpath("catalogue.toml").read_text(encoding="utf-8")


def test_every_model_of_the_table_is_there() -> None:
    assert {e.name for e in catalogue() if e.kind != "corpus"} == PUBLISHED
    assert all(e.hub for e in catalogue() if e.kind != "corpus")


def test_names_and_aliases_are_unique() -> None:
    names = Counter(name for e in catalogue() for name in (e.name, *e.aliases))
    assert set(names.values()) == {1}


def test_defaults_are_verified_and_small() -> None:
    defaults = [get_entry(name) for name in (*DEFAULT_MODELS, DEMO_CORPUS)]
    assert all(entry.verified for entry in defaults)
    assert sum(entry.download_bytes for entry in defaults) < 200_000_000
    assert {e.kind for e in defaults} == {"generator", "dense", "sparse", "corpus"}


def test_mirrors_of_unknown_uploaders_are_marked() -> None:
    assert {e.name for e in catalogue() if not e.verified} == {
        n for n in PUBLISHED if n.startswith("qwen")
    }


def test_pins_hang_together() -> None:
    used = Counter(
        (wheel.distribution, wheel.version) for entry in catalogue() for wheel in entry.wheels
    )
    assert set(used.values()) == {1}, "a shared wheel would be deleted under another pull"
    for entry in catalogue():
        members = [member for wheel in entry.wheels for member in wheel.members]
        parts = [part for file in entry.files for part in file.parts]
        assert len(set(members)) == len(members)
        assert set(parts) <= set(members)
        assert set(parts) == set(members) or any(file.inside for file in entry.files)
        assert entry.weights_file.sha256.startswith(entry.revision)
        for file in entry.files:
            check_name(file.path)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("qwen2.5-coder-0.5b-instruct", "1d961463"),
        ("qwen2.5-coder-1.5b-instruct", "cc324af0"),
        ("all-minilm-l6-v2", "53aa5117"),
    ],
)
def test_digests_are_the_published_ones(name: str, prefix: str) -> None:
    assert get_entry(name).weights_file.sha256.startswith(prefix)


def test_aliases_and_nearest_names() -> None:
    assert get_entry("minilm").name == "all-minilm-l6-v2"
    assert get_entry("splade").name == "splade-tiny"
    assert find_entry("minlm") is None
    with pytest.raises(ModelNotFound, match="did you mean all-minilm-l6-v2"):
        get_entry("minlm")
    with pytest.raises(ModelNotFound, match="rag models list"):
        get_entry("zzzzzzzz")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('kind = "dense"', 'kind = "dense"\ncolour = "red"'),
        ('kind = "dense"', 'kind = "soup"'),
        ('sha256 = "b9', 'sha256 = "Z9'),
        ('version = "0.1.0"', 'version = "0.1.0"\nurl = "elsewhere"'),
    ],
)
def test_unknown_keys_and_values_are_errors(old: str, new: str) -> None:
    assert old in source()
    with pytest.raises(msgspec.ValidationError):
        parse_catalogue(source().replace(old, new, 1))


def test_how_files_are_assembled_is_told() -> None:
    assert get_entry("minilm").assembly == "as is"
    assert get_entry("gemma-270m").assembly == "concatenated"
    assert get_entry("mpnet").assembly == "concatenated, then unzipped"
