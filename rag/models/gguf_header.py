"""The scalar facts at the head of a GGUF file, without parsing its long arrays.

Layout, little-endian (GGUF version 2 and 3): magic, version u32, tensor count u64, pair count u64,
then pairs of key, type u32, value. A string is a u64 length and UTF-8; an array is its item type
u32, a u64 count and the items.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from indexes.errors import ModelError

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {
    **dict(enumerate("BbHhIif?")),
    **dict(enumerate("Qqd", start=10)),
}
_MAX_STRING_BYTES = 1 << 24
_MAX_PAIRS = 1 << 16

Scalar = int | float | bool | str


def read_gguf_header(path: Path) -> dict[str, Scalar]:
    """Metadata of the file, arrays left out. Raises `ModelError` when it is no usable GGUF."""
    try:
        with path.open("rb") as file:
            if file.read(4) != _MAGIC:
                raise ModelError(f"{path.name} is not a GGUF file")
            version, _, n_pairs = struct.unpack("<IQQ", file.read(20))
            if version not in (2, 3) or n_pairs > _MAX_PAIRS:
                raise ModelError(f"{path.name}: GGUF version {version} is not supported")
            pairs = {}
            for _ in range(n_pairs):
                key = _read_string(file)
                value = _read_value(file, _read(file, "<I"))
                if value is not None:
                    pairs[key] = value
            return pairs
    except (struct.error, UnicodeDecodeError, KeyError, OSError) as error:
        raise ModelError(f"{path.name} is truncated or damaged: {error}") from error


def _read_value(file: BinaryIO, kind: int) -> Scalar | None:
    if kind == _STRING:
        return _read_string(file)
    if kind != _ARRAY:
        value: int | float | bool = _read(file, f"<{_SCALARS[kind]}")
        return value
    item_kind, count = _read(file, "<I"), _read(file, "<Q")
    if item_kind in _SCALARS:
        file.seek(count * struct.calcsize(f"<{_SCALARS[item_kind]}"), 1)
        return None
    for _ in range(count):
        _read_value(file, item_kind)
    return None


def _read(file: BinaryIO, layout: str) -> int:
    (value,) = struct.unpack(layout, file.read(struct.calcsize(layout)))
    return value  # type: ignore[no-any-return]


def _read_string(file: BinaryIO) -> str:
    n_bytes = _read(file, "<Q")
    if n_bytes > _MAX_STRING_BYTES:
        raise ModelError("the GGUF file is damaged: a string of impossible length")
    content = file.read(n_bytes)
    if len(content) != n_bytes:
        raise ModelError("the GGUF file is truncated")
    return content.decode()
