"""Whether a folder may be loaded: safetensors only, no code of its own, nothing cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from indexes.errors import ModelError, UnsafeModel
from rag.models.files import PICKLE_SUFFIXES

_OWN_MODULES = "sentence_transformers."


def check_folder(folder: Path) -> list[Path]:
    """The weight files of a model folder, checked; they are all that will be loaded.

    Raises `UnsafeModel` when the only weights are pickles or the model wants to run code of its
    own, `ModelError` when something is missing, cut short or damaged.
    """
    config = read_object(folder / "config.json")
    if config is None:
        raise ModelError(f"{folder} has no config.json: it is not a model's folder")
    _refuse_own_code(folder)
    weights = _named_shards(folder) or sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLE_SUFFIXES)
        if pickles:
            raise UnsafeModel(
                f"{folder} has its weights only as {pickles[0]}, a pickle that can run any code "
                "when loaded; convert it to safetensors where you trust it"
            )
        raise ModelError(f"{folder} has no weights: a .safetensors file is needed")
    for path in weights:
        check_safetensors(path)
    return weights


def check_safetensors(path: Path) -> None:
    """Raise `ModelError` unless the header is sound and covers the file to its last byte."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            n_tensors = len(list(tensors.keys()))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is cut short or damaged: {error}") from error
    if n_tensors == 0:
        raise ModelError(f"{path} holds no tensors")


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file, None when there is no file. Raises `ModelError` when it is not."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{path} is not a readable JSON object: {error}") from error


def _refuse_own_code(folder: Path) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        if (read_object(folder / name) or {}).get("auto_map"):
            raise UnsafeModel(
                f"{folder / name} has an `auto_map`: the model wants to run Python code from its "
                "own folder, and that is never done; use a model built into transformers"
            )
    modules = folder / "modules.json"
    if not modules.exists():
        return
    try:
        steps = msgspec.json.decode(modules.read_bytes(), type=list[dict[str, Any]])
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{modules} is not readable: {error}") from error
    for step in steps:
        if not str(step.get("type", "")).startswith(_OWN_MODULES):
            raise UnsafeModel(f"{modules} names code of its own: {step.get('type')!r}")


def _named_shards(folder: Path) -> list[Path]:
    """Shards that the index of a split model names; each must lie in the folder itself."""
    index = read_object(folder / "model.safetensors.index.json")
    if index is None:
        return []
    names = sorted({str(name) for name in dict(index.get("weight_map", {})).values()})
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelError(f"{folder} lacks {name!r}, which its index of shards names")
    return [folder / name for name in names]
