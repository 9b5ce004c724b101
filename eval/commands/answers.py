"""What an evaluation of answers shows on the command line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.record import RunRecord


def show_answers(args: argparse.Namespace, record: RunRecord) -> None:
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
