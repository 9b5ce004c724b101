"""Models trained for the product that come with it: small folders beside the code.

Each corrects or extends a model of the catalogue, which its `config.json` names as `base` together
with the SHA-256 of the base's weights, so a folder alone is of no use.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import msgspec

from rag.models.catalogue import EntryName
from rag.models.safety import read_object

LICENCE = "Apache-2.0"


class Shipped(msgspec.Struct, frozen=True):
    """One of them: where it lies, the catalogue name of its base, its size."""

    name: str
    folder: Path
    base: str
    size_bytes: int


def shipped() -> tuple[Shipped, ...]:
    """All that came with this installation, by name."""
    place = _place()
    names = sorted(item.name for item in place.iterdir()) if place.is_dir() else []
    return tuple(found for name in names if (found := find_shipped(name)) is not None)


def find_shipped(name: str) -> Shipped | None:
    """The one of that name. Raises `ModelError` when its configuration cannot be read."""
    try:
        folder = _place() / msgspec.convert(name, EntryName)
    except msgspec.ValidationError:
        return None
    config = read_object(folder / "config.json")
    if config is None:
        return None
    sizes = (file.stat().st_size for file in folder.iterdir() if file.is_file())
    return Shipped(name, folder, str(config.get("base", "")), sum(sizes))


def _place() -> Path:
    return Path(str(files("rag") / "weights"))
