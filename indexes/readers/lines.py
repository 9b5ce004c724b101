"""Lines of a plain or gzip file, bounded in memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO, Final, cast

from indexes.readers.intake import Intake
from indexes.readers.sources import Source

_BOM: Final = b"\xef\xbb\xbf"
_SKIP_BYTES: Final = 1 << 20
_REPORT_LINES: Final = 64


def read_lines(source: Source, intake: Intake) -> Iterator[tuple[int, bytes]]:
    """Numbered lines with their line ends, from 1; a byte-order mark is dropped.

    A line over `max_document_bytes` is rejected without ever being held whole, so a small gzip file
    cannot expand into all memory. A file that cannot be opened, or whose compressed data are
    damaged or cut off, is rejected from that line on.
    """
    limit = intake.config.max_document_bytes
    number = 0
    with ExitStack() as stack:
        try:
            file = stack.enter_context(source.path.open("rb"))
        except OSError as error:
            intake.reject(source, None, f"the file cannot be opened: {error.strerror}")
            return
        stream: BinaryIO = file
        if source.is_gzip:
            stream = stack.enter_context(cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb")))
        while True:
            number += 1
            try:
                line = stream.readline(limit + 1)
                too_long = len(line) > limit and _skip_line(stream, line)
            except (EOFError, OSError, zlib.error) as error:
                intake.reject(source, number, f"the file is damaged from here on: {error}")
                return
            if not line:
                return
            if number % _REPORT_LINES == 0:
                intake.reached(file.tell())
            if too_long:
                intake.reject(source, number, f"the line is longer than {limit} bytes")
                continue
            yield number, line.removeprefix(_BOM) if number == 1 else line


def _skip_line(stream: BinaryIO, piece: bytes) -> bool:
    """Read on to the end of the line that `piece` begins; always True."""
    while piece and not piece.endswith(b"\n"):
        piece = stream.readline(_SKIP_BYTES)
    return True
