"""`rag bench passes`: all retrievers in one pass, against the slowest of them alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rag.cli.output import TerminalProgress, print_json, wants_json

if TYPE_CHECKING:
    from rag.config import Settings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        nargs="+",
        metavar="PATH",
        help="BEIR folders or documents",
    )
    parser.add_argument(
        "--retrievers", default="bm25,minilm,splade,dupmae", help="default: %(default)s"
    )
    parser.add_argument("--limit", type=int, default=10_000, metavar="N", help="documents")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print."""
    from rag.bench.passes import PassesBenchRequest, bench_passes

    request = PassesBenchRequest(
        data=args.data,
        retrievers=args.retrievers,
        limit=max(1, args.limit),
        rounds=max(1, args.rounds),
    )
    found = bench_passes(request, settings, TerminalProgress())
    if wants_json(args):
        print_json(found)
        return 0
    print(f"{found.n_documents} documents, {found.n_passages} passages")
    for row in found.rows:
        print(
            f"  {row.name:16}{min(row.seconds):10.1f} s{row.cpu_seconds:10.1f} CPU s"
            f"{row.bytes_per_document:10.0f} bytes a document"
        )
    print(
        f"  together / {found.slowest} alone: {found.ratio:.2f} ({found.cpu_ratio:.2f} by CPU "
        f"time); together / sum of all alone: {found.sum_ratio:.2f}"
    )
    return 0
