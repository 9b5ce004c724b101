"""Parquet files, a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from indexes.readers.intake import Intake, Read
from indexes.readers.sources import Source

_BATCH_ROWS: Final = 256


def read_parquet(source: Source, intake: Intake) -> Iterator[Read]:
    """Documents of a Parquet file; `line` is the row, from 1.

    Dates among the metadata become ISO strings, decimals strings and bytes base64.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(source.path, pre_buffer=False) as file:
            n_rows = max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for record in _records(batch):
                    row += 1
                    read = _accept(record, source, row, intake)
                    if read is not None:
                        yield read
                intake.reached(source.n_bytes * row // n_rows)
    except (pa.ArrowException, OSError) as error:
        intake.reject(source, row + 1, f"the file is damaged from here on: {error}")


def _accept(record: dict[str, Any] | None, source: Source, row: int, intake: Intake) -> Read | None:
    if record is None:
        intake.reject(source, row, "the row is not valid UTF-8")
        return None
    return intake.accept(msgspec.to_builtins(record, str_keys=True), source, row)


def _records(batch: Any) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch as objects, None for one with text that is not UTF-8."""
    for row in range(batch.num_rows):
        try:
            record: dict[str, Any] | None = batch.slice(row, 1).to_pylist()[0]
        except UnicodeDecodeError:
            record = None
        yield record
