"""Scores that a matrix should reproduce, each with its tolerance.

::

    [scifact.bm25]
    "nDCG@10" = { value = 0.6797, tolerance = 0.0005 }
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from eval.matrix import Cell, MatrixConfig
from indexes.errors import UsageError


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A score may differ from `value` by `tolerance` at most."""

    value: float
    tolerance: Annotated[float, Meta(ge=0)]


Expected = dict[str, dict[str, dict[str, Expectation]]]
"""Data set to configuration to measure."""


class Check(msgspec.Struct, frozen=True):
    """One score next to what was expected."""

    dataset: str
    configuration: str
    measure: str
    found: float
    expected: float
    tolerance: float
    ok: bool


def check_names(expected: Expected, config: MatrixConfig) -> None:
    """Raise `UsageError` for an expectation that no cell of the matrix could meet."""
    datasets = {entry.name for entry in config.datasets}
    configurations = {entry.name for entry in config.configurations}
    for dataset, columns in expected.items():
        for configuration, scores in columns.items():
            if dataset not in datasets or configuration not in configurations:
                raise UsageError(f"scores are expected of {dataset}.{configuration}: no such cell")
            if unknown := [measure for measure in scores if measure not in config.measures]:
                raise UsageError(f"{dataset}.{configuration} is not scored by {unknown[0]!r}")


def check_cells(cells: Iterable[Cell], expected: Expected) -> Iterator[Check]:
    """A check for each score of these cells that something is expected of."""
    for cell in cells:
        wanted = expected.get(cell.dataset, {}).get(cell.configuration, {})
        for measure, expectation in wanted.items():
            found = cell.record.measures[measure]
            yield Check(
                cell.dataset,
                cell.configuration,
                measure,
                found,
                expectation.value,
                expectation.tolerance,
                abs(found - expectation.value) <= expectation.tolerance,
            )
