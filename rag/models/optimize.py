"""Building a model's ONNX graph once, into the cache, and telling whether it is the right one.

A graph belongs to the exact weights and config it was made of: its folder is named after their
digest, its receipt repeats it, and what does not match is not loaded but built again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from indexes.errors import ModelError, UsageError
from indexes.files import sha256_of, sync_file, sync_folder
from rag.models.decoder_graph import Floats, Tensors, write_decoder_graph
from rag.models.decoder_shape import DecoderShape, read_decoder_shape
from rag.models.decoder_weights import PACKED, write_decoder_weights
from rag.models.files import fingerprint, locked, megabytes, replaced_folder
from rag.models.graph_writer import GRAPH, WEIGHTS
from rag.models.resolver import ResolvedModel
from rag.models.safety import check_folder
from rag.progress import Progress, Silent

RECIPE = 5
"""Raised when a graph written by older code must not be used any more."""

Precision = Literal["int8", "int4", "fp32"]
"""`int8` for the compiled loops (`rag.models.decoder_kernels`), the others for onnxruntime."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_RECEIPT = "receipt.json"
_SPARE_BYTES = 50_000_000


class _Output(msgspec.Struct, frozen=True):
    size_bytes: int
    sha256: str


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a graph was built from, how, and its files; written last, so the folder is whole."""

    recipe: int
    source_sha256: str
    config_sha256: str
    precision: Precision
    onnx: str
    shape: DecoderShape
    files: dict[str, _Output]


class OptimizedModel(msgspec.Struct, frozen=True):
    """A checked graph on this machine; tokenizer and config stay in the source's folder."""

    folder: Path
    precision: Precision
    shape: DecoderShape

    @property
    def graph(self) -> Path:
        """The file that onnxruntime opens; its weights lie beside it."""
        return self.folder / GRAPH

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.folder / _files(self.precision)[-1]


def find_optimized(
    model: ResolvedModel, cache: Path, precision: Precision = "int4", *, verify: bool = False
) -> OptimizedModel | None:
    """The graph of these very weights, None when it must be built: absent, outdated or cut short.

    The digests of its files are remembered and compared too: a graph changed behind our back is
    not loaded. `verify` reads the files again whatever was remembered.
    """
    folder = optimized_folder(model, cache, precision)
    receipt = _read_receipt(folder)
    if receipt is None or (receipt.recipe, receipt.precision) != (RECIPE, precision):
        return None
    if (receipt.source_sha256, receipt.config_sha256) != (model.sha256, _config_digest(model)):
        return None
    if set(receipt.files) != set(_files(precision)):
        return None
    for name, output in receipt.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != output.size_bytes:
            return None
        if (sha256_of(path) if verify else fingerprint(path, cache)) != output.sha256:
            return None
    return OptimizedModel(folder, precision, receipt.shape)


def optimize(
    model: ResolvedModel,
    cache: Path,
    precision: Precision = "int4",
    *,
    progress: Progress | None = None,
    verify: bool = False,
) -> OptimizedModel:
    """Build the graph where it is not there yet; a few seconds for 135M parameters.

    Two processes may ask at once: one waits for the other. The folder appears whole or not at all.
    Raises `UsageError` for what generates no text, `Unsupported` for an architecture without a
    graph, `ModelError` for weights that do not fit their config or a full disk.
    """
    if model.kind != "generator":
        raise UsageError(f"{model.name} is no generator: only those have an optimised graph")
    progress = progress or Silent()
    found = find_optimized(model, cache, precision, verify=verify)
    if found is not None:
        return found
    shape = read_decoder_shape(model.folder)
    target = optimized_folder(model, cache, precision)
    with locked(target.parent / f".{target.name}.lock", f"the graph of {model.name}", progress):
        found = find_optimized(model, cache, precision, verify=verify)
        if found is not None:
            return found
        weights = check_folder(model.folder)
        _check_space(weights, cache, model.name)
        progress.note(f"{model.name}: building its {precision} graph, once")
        with replaced_folder(target) as folder, ExitStack() as stack:
            tensors = _reader(weights, stack)
            if precision == "int8":
                write_decoder_weights(folder, shape, tensors)
            else:
                write_decoder_graph(folder, shape, tensors, precision)
            _write_receipt(folder, model, precision, shape)
    size = sum(path.stat().st_size for path in target.iterdir())
    progress.note(f"{model.name}: {precision} graph in place, {megabytes(size)}")
    return OptimizedModel(target, precision, shape)


def optimized_folder(model: ResolvedModel, cache: Path, precision: Precision) -> Path:
    """Where the model's graph is, or would be."""
    digest = hashlib.sha256(f"{model.sha256} {_config_digest(model)}".encode()).hexdigest()
    return cache / "models" / "optimized" / f"{digest[:16]}-{precision}"


def _files(precision: Precision) -> tuple[str, ...]:
    return (PACKED,) if precision == "int8" else (GRAPH, WEIGHTS)


def _config_digest(model: ResolvedModel) -> str:
    path = model.folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{model.folder} has no config.json: it is not a model's folder")
    return sha256_of(path)


def _reader(weights: Sequence[Path], stack: ExitStack) -> Tensors:
    """Tensors by name out of safetensors files, as float32."""
    from safetensors import SafetensorError, safe_open

    files: dict[str, Any] = {}
    for path in weights:
        opened = stack.enter_context(safe_open(path, framework="pt"))
        files |= dict.fromkeys(opened.keys(), opened)

    def read(name: str) -> Floats | None:
        if name not in files:
            return None
        try:
            array: Floats = files[name].get_tensor(name).float().numpy()
        except SafetensorError as error:
            raise ModelError(f"cannot read {name}: {error}") from error
        return array

    return read


def _check_space(weights: Sequence[Path], cache: Path, name: str) -> None:
    """At most as much as the weights, in float32, is written."""
    needed = 2 * sum(path.stat().st_size for path in weights) + _SPARE_BYTES
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise ModelError(
            f"the graph of {name} needs up to {megabytes(needed)} in {cache}, "
            f"but {megabytes(free)} are free"
        )


def _write_receipt(
    folder: Path, model: ResolvedModel, precision: Precision, shape: DecoderShape
) -> None:
    import onnx

    for name in _files(precision):
        sync_file(folder / name)
    receipt = Receipt(
        recipe=RECIPE,
        source_sha256=model.sha256,
        config_sha256=_config_digest(model),
        precision=precision,
        onnx=onnx.__version__,
        shape=shape,
        files={
            name: _Output((folder / name).stat().st_size, sha256_of(folder / name))
            for name in _files(precision)
        },
    )
    (folder / _RECEIPT).write_bytes(msgspec.json.format(msgspec.json.encode(receipt)))
    sync_file(folder / _RECEIPT)
    sync_folder(folder)


def _read_receipt(folder: Path) -> Receipt | None:
    try:
        return msgspec.json.decode((folder / _RECEIPT).read_bytes(), type=Receipt)
    except (OSError, msgspec.DecodeError):
        return None
