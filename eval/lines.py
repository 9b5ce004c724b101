"""Lines and JSON records of a text file, gzip-compressed or not, with line numbers in errors."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

import msgspec

from indexes.errors import InvalidInput, MalformedInput, NotFound
from indexes.files import write_durably

Record = TypeVar("Record")


def open_text(path: Path) -> TextIO:
    """Open `path` for reading as UTF-8; a name that ends in `.gz` is decompressed."""
    if path.suffix == ".gz":
        return cast("TextIO", gzip.open(path, "rt", encoding="utf-8"))
    return path.open(encoding="utf-8")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (1-based number, line without its line break), blank lines left out.

    Raises `NotFound` when there is no such file and `MalformedInput` when it is not UTF-8 text or
    its compression is damaged.
    """
    try:
        with open_text(path) as stream:
            for number, line in enumerate(stream, 1):
                if stripped := line.strip("\r\n"):
                    yield number, stripped
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFound(f"there is no file {path}") from error
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise MalformedInput(f"{path} cannot be read: {error}") from error


def json_records(path: Path, kind: type[Record]) -> Iterator[tuple[int, Record]]:
    """Yield (line number, record) of a JSON-lines file, each line converted to `kind`.

    Raises `MalformedInput` for a line that is no JSON and `InvalidInput` for one of another shape.
    """
    decoder = msgspec.json.Decoder(kind)
    for number, line in numbered_lines(path):
        try:
            record = decoder.decode(line)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{path}, line {number}: {error}") from error
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            raise MalformedInput(f"{path}, line {number} is not JSON: {error}") from error
        yield number, record


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON document a line in one atomic step; compressed where the name says `.gz`."""
    data = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def append_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Add one JSON document a line to what is there; compressed where the name says `.gz`."""
    data = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.write(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
