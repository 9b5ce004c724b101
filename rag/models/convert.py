"""GGUF to float32 safetensors, once: loading then takes under a second instead of half a minute.

transformers reads the GGUF and undoes its quantisation; what is saved are those very numbers, so
nothing but the file format changes. Config, tokenizer and chat template come out of the GGUF too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from indexes.errors import ModelError
from indexes.files import sha256_of, sync_folder
from rag.models.files import megabytes, replaced_folder
from rag.models.gguf_header import read_gguf_header
from rag.models.torch_runtime import quiet_transformers
from rag.progress import Progress, Silent

RECIPE = 1
"""Raised when a conversion by older code must not be used any more."""

_RECORD = "conversion.json"


class _Output(msgspec.Struct, frozen=True):
    size_bytes: int
    sha256: str


class Conversion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was converted, how, and into what; written last, so it says the folder is whole."""

    recipe: int
    source_sha256: str
    transformers: str
    files: dict[str, _Output]


def is_converted(folder: Path, sha256: str, *, verify: bool = False) -> bool:
    """Whether `folder` holds an undamaged conversion of the GGUF with that digest.

    Sizes are compared, and with `verify` the digests.
    """
    record = _read_record(folder)
    if record is None or (record.recipe, record.source_sha256) != (RECIPE, sha256):
        return False
    for name, output in record.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != output.size_bytes:
            return False
        if verify and sha256_of(path) != output.sha256:
            return False
    return True


def converted_digest(folder: Path, name: str) -> str | None:
    """SHA-256 that the file `name` had when the conversion ended."""
    record = _read_record(folder)
    output = record.files.get(name) if record is not None else None
    return output.sha256 if output is not None else None


def convert_gguf(
    gguf: Path, target: Path, *, name: str, sha256: str, progress: Progress | None = None
) -> None:
    """Write `gguf` as a folder that transformers loads: config, tokenizer, safetensors in float32.

    `name` is what the model is called in messages.
    Takes about 25 s for 135M parameters on two cores, and as much memory as the float32 weights
    twice over. `target` appears whole or not at all. Raises `ModelError`.
    """
    progress = progress or Silent()
    header = read_gguf_header(gguf)
    progress.note(
        f"{name}: converting {megabytes(gguf.stat().st_size)} of GGUF to safetensors, once; "
        "half a minute for a small model"
    )
    with replaced_folder(target) as folder:
        try:
            _save_as_safetensors(gguf, folder, str(header.get("tokenizer.ggml.pre", "")))
        except (ValueError, KeyError, OSError, NotImplementedError, RuntimeError) as error:
            raise ModelError(f"cannot convert {gguf.name}: {error}") from error
        _write_record(folder, sha256)
    progress.note(
        f"{name}: converted, {megabytes(sum(f.stat().st_size for f in target.iterdir()))}"
    )


def _save_as_safetensors(gguf: Path, folder: Path, pre_tokenizer: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
        _restore_pre_tokenizer(tokenizer, pre_tokenizer)
        tokenizer.save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
        # The weights are plain float32 by now, but the model still believes to be quantised,
        # and a quantised model refuses to be saved.
        model.__dict__.pop("hf_quantizer", None)
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)


def _restore_pre_tokenizer(tokenizer: Any, name: str) -> None:
    r"""Put back the splitting of digits that the `smollm` pre-tokenizer does before anything else.

    transformers' GGUF reader leaves it out; whitespace before a digit then becomes other tokens
    than in training: "\n\n1" three instead of two.
    """
    if name != "smollm":
        return
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )


def _write_record(folder: Path, sha256: str) -> None:
    import transformers

    paths = sorted(folder.iterdir())
    for path in paths:
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    record = Conversion(
        recipe=RECIPE,
        source_sha256=sha256,
        transformers=transformers.__version__,
        files={path.name: _Output(path.stat().st_size, sha256_of(path)) for path in paths},
    )
    (folder / _RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    sync_folder(folder)


def _read_record(folder: Path) -> Conversion | None:
    try:
        return msgspec.json.decode((folder / _RECORD).read_bytes(), type=Conversion)
    except (OSError, msgspec.DecodeError):
        return None
