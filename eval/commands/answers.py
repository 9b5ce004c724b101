"""What evaluations of answers share on the command line: keep, write and print them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.ask import AnswerPlan
    from eval.journal import Journal
    from eval.record import RunRecord
    from rag.config import Settings
    from rag.service import Service

    Evaluate = Callable[[Service, str, Journal | None], tuple[list[Any], RunRecord]]


def run_answers(
    args: argparse.Namespace,
    settings: Settings,
    index: str,
    plan: AnswerPlan,
    evaluate: Evaluate,
) -> int:
    """Evaluate with a service, under a name, and print the means.

    With `--out` the answers and their record are written; until then they are kept as they come.
    """
    from eval.answer_record import store_answers
    from eval.compressors import compressing_service
    from eval.journal import answer_journal
    from eval.record import run_name

    name = run_name(args.out) if args.out else index
    service = compressing_service(settings, plan, index)
    try:
        with answer_journal(args.out, service, index, plan) as journal:
            rows, record = evaluate(service, name, journal)
            if args.out:
                record = store_answers(args.out, rows, record)
    finally:
        service.close()
    _show(args, record)
    return 0


def _show(args: argparse.Namespace, record: RunRecord) -> None:
    """Print the means, each with the number of questions it runs over, tokens and latency."""
    import msgspec

    from eval.commands.text_table import write_table
    from rag.cli.output import print_json, wants_json

    n = {name: len(values) for name, values in record.per_query.items()}
    if wants_json(args):
        shape = ("measures", "n_queries", "n_missing", "counts", "latency", "config")
        print_json({**{name: getattr(record, name) for name in shape}, "n": n})
        return
    rows = [[name, f"{value:.4f}", str(n[name])] for name, value in record.measures.items()]
    write_table(["measure", "value", "questions"], rows)
    counts = ", ".join(f"{name} {value}" for name, value in record.counts.items())
    sys.stderr.write(f"{record.n_queries} questions; {counts}\n")
    for stage, spent in record.latency.items():
        p50, p95, p99 = (f"{value:.0f}" for value in msgspec.structs.astuple(spent)[2:])
        sys.stderr.write(f"{stage:16} p50 {p50:>7} p95 {p95:>7} p99 {p99:>7} ms\n")
