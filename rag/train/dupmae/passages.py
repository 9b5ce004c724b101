"""Passages without questions, for pre-training."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import msgspec

from indexes.errors import InvalidInput, MalformedInput
from indexes.files import sha256_of


class Passages(msgspec.Struct, frozen=True):
    """The texts, and the digest of the file they are from with the sources that were taken."""

    texts: list[str]
    sha256: str


class _Row(msgspec.Struct):
    source: str
    text: str


def read_passages(path: Path, sources: Sequence[str]) -> Passages:
    """Texts of a gzipped file of `{source, text}` lines, of these sources only (none: all).

    Raises `InvalidInput` when there is no such file or source, `MalformedInput` for a bad line.
    """
    if not path.is_file():
        raise InvalidInput(f"pre-training passages: {path} is absent")
    decoder = msgspec.json.Decoder(_Row)
    texts: list[str] = []
    found: set[str] = set()
    with gzip.open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = decoder.decode(line)
            except msgspec.DecodeError as error:
                raise MalformedInput(f"{path.name}:{number}: {error}") from error
            if (not sources or row.source in sources) and row.text.strip():
                found.add(row.source)
                texts.append(row.text)
    absent = set(sources) - found
    if absent or not texts:
        raise InvalidInput(f"{path.name} has no passages of {', '.join(sorted(absent)) or 'any'}")
    digest = sha256_of(path)
    return Passages(texts, digest if not sources else f"{digest}:{','.join(sorted(sources))}")
