"""`rag eval compare`: whether one run is better than another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.record import RunRecord
    from rag.config import Settings

HELP = "compare runs with the first: t-test, Fisher randomisation, Holm correction"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval compare`."""
    parser = subparsers.add_parser("compare", help=HELP, description=HELP, parents=[common])
    add_run_flags(parser)
    parser.add_argument("--permutations", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_run)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """What `compare` and `report` have in common."""
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="a run with its record beside it, a record, or any run with --qrels",
    )
    parser.add_argument("--qrels", type=Path, metavar="FILE", help="score the runs anew by these")
    parser.add_argument(
        "--measure",
        action="append",
        default=[],
        metavar="M",
        dest="measures",
        help="an ir-measures string; may be repeated",
    )


def load(args: argparse.Namespace) -> dict[str, RunRecord]:
    """The records of the runs asked for, by name."""
    from eval.measures import check_measures
    from eval.qrels import read_qrels
    from eval.record import DatasetFacts
    from eval.stored_run import load_runs

    check_measures(args.measures)
    qrels = read_qrels(args.qrels) if args.qrels else None
    facts = DatasetFacts(args.qrels.name if args.qrels else "", "")
    return load_runs(args.runs, qrels, facts, args.measures)


def _run(args: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 (the commands' shape)
    from eval.commands.text_table import write_table
    from eval.compare import compare
    from rag.cli.output import print_json, wants_json

    runs = {name: record.per_query for name, record in load(args).items()}
    rows = compare(runs, args.measures, n_permutations=args.permutations, seed=args.seed)
    if wants_json(args):
        for row in rows:
            print_json(row)
        return 0
    header = [
        "run",
        "measure",
        "mean",
        "difference",
        "p (t)",
        "Holm",
        "p (Fisher)",
        "Holm",
        "w/t/l",
    ]
    cells = [
        [
            row.run,
            row.measure,
            f"{row.mean_run:.4f}",
            f"{row.difference:+.4f}",
            *(f"{p:.4g}" for p in (row.p_t, row.p_t_holm, row.p_fisher, row.p_fisher_holm)),
            f"{row.wins}/{row.ties}/{row.losses}",
        ]
        for row in rows
    ]
    write_table(header, cells)
    sys.stderr.write(f"against {rows[0].baseline}, {rows[0].n_queries} queries\n")
    return 0
