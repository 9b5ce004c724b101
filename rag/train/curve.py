"""The loss curve: one JSON line a step, the same bytes however often the run was interrupted."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import msgspec

from indexes.files import write_durably

CURVE = "curve.jsonl"


class Point(msgspec.Struct, frozen=True, omit_defaults=True):
    """One update, or a measurement (`measures`) after so many of them.

    `parts` are the terms of the loss and what else the task watches.
    """

    step: int
    loss: float | None = None
    learning_rate: float = 0.0
    gradient_norm: float = 0.0
    parts: dict[str, float] = {}
    measures: dict[str, float] = {}


def read_curve(path: Path, last: int | None = None) -> list[Point]:
    """The points up to step `last`; a line that a kill cut short ends the curve."""
    points: list[Point] = []
    if not path.is_file():
        return points
    for line in path.read_bytes().splitlines():
        try:
            point = msgspec.json.decode(line, type=Point)
        except msgspec.DecodeError:
            break
        if last is None or point.step <= last:
            points.append(point)
    return points


class CurveFile:
    """Appends points; what an interrupted sitting wrote after its checkpoint is dropped first."""

    def __init__(self, path: Path, last: int | None) -> None:
        kept = [] if last is None else read_curve(path, last)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, b"".join(msgspec.json.encode(point) + b"\n" for point in kept))
        self._file = path.open("ab")

    def __enter__(self) -> CurveFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, point: Point) -> None:
        """Append a point; readers see it at once."""
        self._file.write(msgspec.json.encode(point) + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """Flush to the disk: before the checkpoint says that these steps are done."""
        os.fsync(self._file.fileno())
