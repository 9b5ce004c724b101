"""Where catalogue entries lie in the cache, and whether they are whole."""

from __future__ import annotations

from pathlib import Path

from indexes.errors import ModelError
from indexes.files import sha256_of
from rag.models.catalogue import Entry
from rag.models.convert import is_converted
from rag.models.files import fingerprint


def entry_folder(entry: Entry, cache: Path) -> Path:
    """Where the entry's files are, or would be."""
    return cache / "models" / entry.name / entry.revision


def converted_folder(entry: Entry, cache: Path) -> Path:
    """Where the float32 safetensors made from the entry's GGUF are, or would be."""
    return entry_folder(entry, cache) / "float32"


def is_gguf(entry: Entry) -> bool:
    """Whether the entry's weights need a conversion before torch can load them fast."""
    return entry.weights.endswith(".gguf")


def is_ready(entry: Entry, cache: Path) -> bool:
    """Whether all files are there in their right sizes, and converted where that is needed."""
    if damaged_files(entry, cache):
        return False
    return not is_gguf(entry) or is_converted(
        converted_folder(entry, cache), entry.weights_file.sha256
    )


def ready_folder(entry: Entry, cache: Path) -> Path:
    """The folder to load from: the converted one where the entry is a GGUF."""
    return converted_folder(entry, cache) if is_gguf(entry) else entry_folder(entry, cache)


def damaged_files(entry: Entry, cache: Path, *, verify: bool = False) -> list[str]:
    """Names of the files that are missing or have a wrong size, and with `verify` wrong content."""
    folder = entry_folder(entry, cache)
    damage = []
    for file in entry.files:
        path = folder / file.path
        if not has_size(path, file.size_bytes) or (verify and sha256_of(path) != file.sha256):
            damage.append(file.path)
    return damage


def check_weights(entry: Entry, cache: Path) -> None:
    """Raise `ModelError` when the cached weights are not the pinned ones.

    The digest is remembered, so this reads the file only when its size or time has changed.
    """
    path = entry_folder(entry, cache) / entry.weights
    if fingerprint(path, cache) != entry.weights_file.sha256:
        raise ModelError(
            f"the cached weights of {entry.name} are damaged; "
            f"`rag models pull --verify {entry.name}` fetches them again"
        )


def has_size(path: Path, size_bytes: int) -> bool:
    """Whether `path` is a file of that size."""
    return path.is_file() and path.stat().st_size == size_bytes
