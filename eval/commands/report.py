"""`rag eval report`: one page about a set of runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.compare import add_run_flags, load

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "one self-contained HTML page about runs"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval report`."""
    parser = subparsers.add_parser("report", help=HELP, description=HELP, parents=[common])
    add_run_flags(parser)
    parser.add_argument("--out", type=Path, default=Path("report"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="of the randomisation test")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 (the commands' shape)
    from eval.report import write_report
    from rag.cli.output import print_json, wants_json

    path = write_report(list(load(args).values()), args.out, seed=args.seed)
    if wants_json(args):
        print_json({"report": str(path)})
    else:
        sys.stdout.write(f"{path}\n")
    return 0
