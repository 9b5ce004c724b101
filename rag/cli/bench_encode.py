"""`rag bench encode`: documents a second, ours and sentence-transformers'."""

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
        "--data", type=Path, required=True, metavar="PATH", help="BEIR folder or documents"
    )
    parser.add_argument("--model", default="splade-tiny", help="default: %(default)s")
    parser.add_argument("--limit", type=int, default=128, metavar="N", help="documents")
    parser.add_argument("--max-tokens", type=int, default=256, metavar="N")
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="the peer's; default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print."""
    from rag.bench.encode import EncodeBenchRequest, bench_encode

    request = EncodeBenchRequest(
        data=args.data,
        model=args.model,
        limit=max(1, args.limit),
        max_tokens=args.max_tokens,
        batch_size=max(1, args.batch_size),
        rounds=max(1, args.rounds),
    )
    found = bench_encode(request, settings, TerminalProgress())
    if wants_json(args):
        print_json(found)
        return 0
    print(
        f"{found.model} on {found.n_documents} documents of {found.data}, {found.n_tokens} tokens "
        f"({found.shortest_tokens} to {found.longest_tokens} each), {found.n_threads} threads"
    )
    for row in found.rows:
        print(f"  {row.engine:24}{row.documents_per_s:10.1f} documents/s")
    print(
        f"  ratio {found.ratio:.2f} ({found.cpu_ratio:.2f} by CPU time), "
        f"greatest difference {found.max_abs_difference:.2g}"
    )
    print(
        f"  the float32 product alone runs at {found.floor_gflop_per_s:.0f} GFLOP/s and takes "
        f"{found.share_of_floor:.0%} of our time"
    )
    return 0
