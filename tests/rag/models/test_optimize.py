"""A graph is built once, whole, and never used with other weights than its own."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "generate"))

from tiny_decoders import save_tiny_decoder
from wheel_shelf import Notes

from indexes.errors import ModelError, Unsupported, UsageError
from rag.cli.main import common_flags
from rag.cli.models import add_parser
from rag.config import Settings
from rag.models.catalogue import Entry, get_entry
from rag.models.decoder_shape import read_decoder_shape
from rag.models.decoder_weights import PACKED
from rag.models.graph_writer import GRAPH, WEIGHTS
from rag.models.optimize import (
    PRECISIONS,
    Precision,
    find_optimized,
    optimize,
    optimized_folder,
)
from rag.models.resolver import ResolvedModel, resolve

RECEIPT = "receipt.json"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_decoder(tmp_path / "tiny", "llama")


@pytest.fixture
def model(folder: Path, cache: Path) -> ResolvedModel:
    return resolve(str(folder), cache)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_it_is_built_once(model: ResolvedModel, cache: Path) -> None:
    notes = Notes()
    assert find_optimized(model, cache) is None
    built = optimize(model, cache, progress=notes)
    assert [note.partition(":")[0] for note in notes.notes] == ["tiny", "tiny"]
    assert optimize(model, cache, progress=notes, verify=True) == built
    assert find_optimized(model, cache) == built
    assert len(notes.notes) == 2
    assert built.precision == "int4"
    assert built.shape == read_decoder_shape(model.folder)
    assert find_optimized(model, cache, "fp32") is None
    assert sorted(path.name for path in built.folder.iterdir()) == [
        *(GRAPH, "receipt.json", WEIGHTS),
    ]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_builds_are_the_same_bytes(
    model: ResolvedModel, cache: Path, tmp_path: Path, precision: Precision
) -> None:
    one = optimize(model, cache, precision)
    other = optimize(model, tmp_path / "other", precision)
    names = sorted(path.name for path in one.folder.iterdir())
    assert names == sorted([*((PACKED,) if precision == "int8" else (GRAPH, WEIGHTS)), RECEIPT])
    for name in names:
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_other_weights_have_another_graph(model: ResolvedModel, folder: Path, cache: Path) -> None:
    built = optimize(model, cache)
    save_tiny_decoder(folder, "llama", seed=2)
    changed = resolve(str(folder), cache)
    assert find_optimized(changed, cache) is None
    assert optimize(changed, cache).folder != built.folder


def test_another_config_has_another_graph(model: ResolvedModel, folder: Path, cache: Path) -> None:
    built = optimize(model, cache)
    edit_config(folder, rms_norm_eps=0.01)
    changed = resolve(str(folder), cache)
    assert changed.sha256 == model.sha256
    assert find_optimized(changed, cache) is None
    assert optimize(changed, cache).folder != built.folder


def test_a_receipt_of_other_weights_is_refused(model: ResolvedModel, cache: Path) -> None:
    receipt = optimize(model, cache).folder / "receipt.json"
    content = json.loads(receipt.read_text())
    for changes in ({"source_sha256": "0" * 64}, {"recipe": 0}, {"config_sha256": "0" * 64}):
        receipt.write_text(json.dumps(content | changes))
        assert find_optimized(model, cache) is None
    receipt.write_text(json.dumps(content | {"files": {"../../x": content["files"][GRAPH]}}))
    assert find_optimized(model, cache) is None
    receipt.write_text("{")
    assert find_optimized(model, cache) is None


@pytest.mark.parametrize(
    ("name", "precision"), [(GRAPH, "int4"), (WEIGHTS, "int4"), (PACKED, "int8")]
)
def test_a_damaged_graph_is_built_again(
    model: ResolvedModel, cache: Path, name: str, precision: Precision
) -> None:
    path = optimize(model, cache, precision).folder / name
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        assert find_optimized(model, cache, precision) is None
        optimize(model, cache, precision)
        assert path.read_bytes() == whole
    path.unlink()
    assert find_optimized(model, cache, precision) is None


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"head_dim": 8}, "heads of 8"),
        ({"hidden_size": 48}, "width of 48"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
    ],
)
def test_what_has_no_graph(
    folder: Path, cache: Path, changes: dict[str, object], what: str
) -> None:
    edit_config(folder, **changes)
    with pytest.raises(Unsupported, match=what):
        optimize(resolve(str(folder), cache), cache)
    assert not (cache / "models" / "optimized").exists()


def test_weights_that_do_not_fit_their_config(folder: Path, cache: Path) -> None:
    edit_config(folder, num_hidden_layers=3)
    model = resolve(str(folder), cache)
    with pytest.raises(ModelError, match=r"lack model\.layers\.2"):
        optimize(model, cache)
    assert not optimized_folder(model, cache, "int4").exists()
    edit_config(folder, num_hidden_layers="three")
    with pytest.raises(ModelError, match="num_hidden_layers"):
        optimize(resolve(str(folder), cache), cache)


def test_only_generators(folder: Path, cache: Path) -> None:
    edit_config(folder, architectures=["BertModel"])
    with pytest.raises(UsageError, match="no generator"):
        optimize(resolve(str(folder), cache), cache)


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"model_type": "mistral", "sliding_window": 9}, (9, 9)),
        ({"model_type": "mistral", "sliding_window": None}, (0, 0)),
        ({"model_type": "llama", "sliding_window": 9}, (0, 0)),
        ({"model_type": "qwen2", "sliding_window": 9, "use_sliding_window": False}, (0, 0)),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 9,
                "use_sliding_window": True,
                "layer_types": ["full_attention", "sliding_attention"],
            },
            (0, 9),
        ),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 9,
                "use_sliding_window": True,
                "max_window_layers": 1,
            },
            (0, 9),
        ),
    ],
)
def test_sliding_windows(
    folder: Path, changes: dict[str, object], windows: tuple[int, ...]
) -> None:
    edit_config(folder, **changes)
    assert read_decoder_shape(folder).windows == windows


def test_pull_builds_it(
    model: ResolvedModel,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`rag models pull --optimize` of what is pulled already: only the graph is made."""
    entries = {"smollm2-135m-instruct": model.folder, "all-minilm-l6-v2": model.folder}

    def pulled(wanted: list[Entry], *_: object, **__: object) -> list[Path]:
        return [entries[entry.name] for entry in wanted]

    monkeypatch.setattr("rag.models.pull.pull_all", pulled)
    monkeypatch.setattr("rag.models.resolver.resolve", lambda name, cache: model)
    common = common_flags()
    parser = argparse.ArgumentParser(parents=[common])
    add_parser(parser.add_subparsers(), common)
    names = list(entries)
    args = parser.parse_args(["models", "pull", *names, "--optimize", "fp32", "--json"])
    assert args.run(args, Settings(cache=cache)) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["optimized"] == str(optimized_folder(model, cache, "fp32"))
    assert "optimized" not in rows[1]
    assert [get_entry(row["name"]).kind for row in rows] == ["generator", "dense"]
