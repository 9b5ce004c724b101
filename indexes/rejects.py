"""The reject file: one JSON line for each thing that could not be read, and why."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from indexes.document import MAX_ID_CHARS
from indexes.files import sync_folder


class Reject(msgspec.Struct, frozen=True):
    """One row of the reject file.

    `line` counts from 1 (in Parquet it is the row); None stands for a whole file.
    """

    source: str
    line: int | None
    id: str | None
    reason: str


class Rejects:
    """Owns the reject file of one run.

    The file appears with the first reject; one left by an earlier run is removed at once, so what
    is there always belongs to this run. Closing flushes it to the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: BinaryIO | None = None
        path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, source: str, line: int | None, document_id: str | None, reason: str) -> None:
        """Write one row; safe for any string, also one that is not valid Unicode."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        shown = None if document_id is None else _printable(document_id[:MAX_ID_CHARS])
        row = Reject(_printable(source), line, shown, _printable(reason))
        self._file.write(msgspec.json.encode(row) + b"\n")
        self._file.flush()
        self.count += 1

    def close(self) -> None:
        """Flush the file and its folder to the disk; harmless when called again."""
        if self._file is None:
            return
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        sync_folder(self.path.parent)


def _printable(text: str) -> str:
    """The text with lone surrogates (say, of a file name that is not UTF-8) spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
