"""`rag bench identity`: every drafter's greedy texts against plain decoding's."""

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
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="as for `rag bench decode`",
    )
    parser.add_argument(
        "--checks",
        type=Path,
        metavar="FILE",
        help="where checks are kept: a run that was broken off goes on; default: in the cache",
    )
    parser.add_argument(
        "--backends",
        metavar="LIST",
        help="of int8,int4,fp32,torch; default: all that this processor can run",
    )
    parser.add_argument(
        "--drafters",
        default="lookup,suffix,recycle,auto,rapid,crop",
        metavar="LIST",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--gammas", default="0-10", metavar="N-N", help="lengths of drafts; default: %(default)s"
    )
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="prompts")
    parser.add_argument("--max-prompt-tokens", type=int, default=640, metavar="N")
    parser.add_argument("--max-tokens", type=int, default=32, metavar="N")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Check and print; 1 where a text differs."""
    from rag.bench.identity import BACKENDS, IdentityRequest, bench_identity

    request = IdentityRequest(
        data=args.data,
        checks=args.checks or settings.cache / "bench" / "identity.jsonl",
        backends=_names(args.backends) if args.backends else BACKENDS,
        drafters=_names(args.drafters),
        gammas=_range(args.gammas),
        n_prompts=max(1, args.limit),
        max_prompt_tokens=max(64, args.max_prompt_tokens),
        max_tokens=max(2, args.max_tokens),
    )
    rows = bench_identity(request, settings, TerminalProgress())
    for row in rows:
        if wants_json(args):
            print_json(row)
            continue
        first = row.first_difference
        print(
            f"  {row.backend:6}{row.drafter:9}{row.gamma:3}{row.n_identical:5} of "
            f"{row.n_prompts:3} identical, {row.drafted:6} tokens drafted"
            + (f"; prompt {first.prompt} differs at {first.position}" if first else "")
            + (f"; logits by {row.max_difference:.1g}" if row.max_difference else "")
        )
    return 0 if all(row.n_identical == row.n_prompts for row in rows) else 1


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _range(text: str) -> list[int]:
    first, _, last = text.partition("-")
    try:
        return list(range(int(first), int(last or first) + 1))
    except ValueError as error:
        raise UsageError(f"--gammas takes a number or N-N, not {text!r}") from error
