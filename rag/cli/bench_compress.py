"""`rag bench compress`: tokens a second, ours and llmlingua's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from indexes.errors import UsageError
from rag.cli.output import TerminalProgress, print_json, wants_json

if TYPE_CHECKING:
    from rag.config import Settings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="PATH", help="BEIR folder or documents"
    )
    parser.add_argument("--model", metavar="NAME", help="token classifier; default: the settings'")
    parser.add_argument("--limit", type=int, default=64, metavar="N", help="texts")
    parser.add_argument(
        "--join", type=int, default=1, metavar="N", help="documents to a text; default 1"
    )
    parser.add_argument("--rate", type=float, default=0.5, metavar="X", help="default 0.5")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print."""
    from rag.bench.compress import CompressBenchRequest, bench_compress

    model = args.model or settings.compressor
    if model == "none":
        raise UsageError("--model: no token classifier is configured")
    if not 0 < args.rate < 1:
        raise UsageError("--rate: between 0 and 1")
    request = CompressBenchRequest(
        data=args.data,
        model=model,
        limit=max(1, args.limit),
        join=max(1, args.join),
        rate=args.rate,
        rounds=max(1, args.rounds),
    )
    found = bench_compress(request, settings, TerminalProgress())
    if wants_json(args):
        print_json(found)
        return 0
    print(
        f"{found.model} on {found.n_texts} texts of {found.data}, {found.n_tokens} tokens (longest "
        f"{found.longest_tokens}), {found.n_threads} threads, rate {found.rate}"
    )
    for row in found.rows:
        print(f"  {row.engine:12}{row.tokens_per_s:10.0f} tokens/s   kept {row.kept:.1%}")
    print(f"  ratio {found.ratio:.2f} ({found.cpu_ratio:.2f} by CPU time)")
    return 0
