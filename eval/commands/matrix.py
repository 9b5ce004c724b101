"""`rag eval matrix`: data sets × configurations, against the scores they should have."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.errors import UsageError

if TYPE_CHECKING:
    from eval.expected import Check
    from eval.matrix import Cell
    from rag.config import Settings

HELP = "data sets x configurations; resumes, and compares with expected scores"
_OWN = Path(__file__).parents[1]
DIFFERS = 1


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval matrix`."""
    parser = subparsers.add_parser("matrix", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "matrix",
        type=Path,
        nargs="?",
        metavar="CONFIG.toml",
        help="default: the reproduction matrix that comes with the product",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="where the data sets lie"
    )
    parser.add_argument(
        "--expected", type=Path, metavar="FILE.toml", help="default: that of the default matrix"
    )
    parser.add_argument(
        "--only", default="*", metavar="PATTERN", help="cells, such as 'scifact.*' or '*.bm25'"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("matrix"), metavar="DIR", help="runs; default: %(default)s"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.expected import Expected, check_cells, check_names
    from eval.matrix import read_matrix, read_toml, run_matrix
    from rag.cli.output import TerminalProgress
    from rag.service import Service

    config = read_matrix(args.matrix or _OWN / "matrix.toml")
    if not args.data.is_dir():
        raise UsageError(f"--data: there is no folder {args.data}")
    own = None if args.matrix else _OWN / "expected.toml"
    file = args.expected or own
    expected: Expected = read_toml(file, Expected) if file else {}
    check_names(expected, config)
    service = Service(settings)
    try:
        progress = TerminalProgress()
        cells = list(run_matrix(service, config, args.data, args.out, progress, args.only))
    finally:
        service.close()
    checks = list(check_cells(cells, expected))
    _show(args, cells, checks)
    return 0 if all(check.ok for check in checks) else DIFFERS


def _show(args: argparse.Namespace, cells: list[Cell], checks: list[Check]) -> None:
    from eval.commands.text_table import write_table
    from rag.cli.output import print_json, wants_json

    if wants_json(args):
        for cell in cells:
            key = (cell.dataset, cell.configuration)
            print_json(
                {
                    "dataset": cell.dataset,
                    "configuration": cell.configuration,
                    "measures": cell.record.measures,
                    "reused": cell.reused,
                    "checks": [c for c in checks if (c.dataset, c.configuration) == key],
                }
            )
        return
    measures = list(dict.fromkeys(name for cell in cells for name in cell.record.measures))
    rows = [
        [
            f"{cell.dataset}.{cell.configuration}",
            *(f"{cell.record.measures.get(name, float('nan')):.4f}" for name in measures),
            "before" if cell.reused else "now",
        ]
        for cell in cells
    ]
    write_table(["cell", *measures, "measured"], rows)
    for check in checks:
        if not check.ok:
            sys.stdout.write(
                f"differs: {check.dataset}.{check.configuration} {check.measure} is "
                f"{check.found:.4f}, expected {check.expected:.4f} ± {check.tolerance:g}\n"
            )
    sys.stderr.write(f"{len(checks)} scores compared, {sum(c.ok for c in checks)} as expected\n")
