"""Tables for a person at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write to stdout: the first column to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        sys.stdout.write("  ".join([first.ljust(widths[0]), *cells]).rstrip() + "\n")


def write_measures(measures: dict[str, float]) -> None:
    """Write one measure a line, with four digits as published tables have them."""
    write_table(["measure", "value"], [[name, f"{v:.4f}"] for name, v in measures.items()])
