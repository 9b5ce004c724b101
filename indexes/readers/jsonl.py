"""JSON lines: one object a line."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from indexes.errors import MalformedInput
from indexes.readers.intake import Intake, Read
from indexes.readers.lines import read_lines
from indexes.readers.sources import Source


def read_jsonl(source: Source, intake: Intake) -> Iterator[Read]:
    """Documents of a JSON-lines file; a bad line is rejected and the rest still read."""
    for number, line in read_lines(source, intake):
        if not line.strip():
            continue
        try:
            record = _decode(line)
        except MalformedInput as error:
            intake.reject(source, number, str(error))
            continue
        read = intake.accept(record, source, number)
        if read is not None:
            yield read


def _decode(line: bytes) -> object:
    try:
        return msgspec.json.decode(line)
    except UnicodeDecodeError:
        raise MalformedInput("the line is not valid UTF-8") from None
    except RecursionError:
        raise MalformedInput("the line is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise MalformedInput(f"the line is not valid JSON: {error}") from None
