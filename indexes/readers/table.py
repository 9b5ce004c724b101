"""CSV and TSV files with a header row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Literal

from indexes.readers.intake import Intake, Read
from indexes.readers.lines import read_lines
from indexes.readers.sources import Source


def read_csv(source: Source, intake: Intake) -> Iterator[Read]:
    """Documents of a CSV file (RFC 4180: quoted cells may hold commas, quotes and line breaks)."""
    return _read(_Rows(source, intake, ",", csv.QUOTE_MINIMAL), source, intake)


def read_tsv(source: Source, intake: Intake) -> Iterator[Read]:
    """Documents of a TSV file: cells end at a tab, rows at a line end, and a quote is a quote."""
    return _read(_Rows(source, intake, "\t", csv.QUOTE_NONE), source, intake)


class _Rows:
    """Rows of a file and the line each began on; owns the parser over the open file."""

    def __init__(
        self, source: Source, intake: Intake, delimiter: str, quoting: Literal[0, 3]
    ) -> None:
        # The parser's bound on a cell is one for the whole process; it is only ever raised here,
        # for its default is 128 KB and a document may be longer.
        csv.field_size_limit(max(csv.field_size_limit(), intake.config.max_document_bytes))
        self.line = 0
        self._last = 0
        self._lines = read_lines(source, intake)
        self._parser = csv.reader(
            self._decoded(), delimiter=delimiter, quoting=quoting, strict=True
        )

    def _decoded(self) -> Iterator[str]:
        for number, line in self._lines:
            self._last = number
            self.line = self.line or number
            # Bytes that are not UTF-8 become lone surrogates, to be found in the finished row.
            yield line.decode("utf-8", "surrogateescape")

    def next_row(self) -> list[str] | None:
        """The next row, None at the end; after a `csv.Error` the next may still be asked for."""
        self.line = 0
        return next(self._parser, None)


def _read(rows: _Rows, source: Source, intake: Intake) -> Iterator[Read]:
    header: list[str] | None = None
    while True:
        try:
            row = rows.next_row()
        except csv.Error as error:
            intake.reject(source, rows.line, f"the row cannot be parsed: {error}")
            continue
        if row is None:
            return
        if not row:
            continue
        if header is None:
            header = [name.strip() for name in row]
            continue
        reason = _flaw(row, header)
        if reason:
            intake.reject(source, rows.line, reason)
            continue
        read = intake.accept(dict(zip(header, row, strict=True)), source, rows.line)
        if read is not None:
            yield read


def _flaw(row: list[str], header: list[str]) -> str:
    if len(row) != len(header):
        return f"the row has {len(row)} cells, the header {len(header)}"
    if any("\udc80" <= ch <= "\udcff" for cell in row if not cell.isascii() for ch in cell):
        return "the row is not valid UTF-8"
    return ""
