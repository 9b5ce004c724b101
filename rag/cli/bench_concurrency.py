"""`rag bench concurrency`: tokens a second of many requests at once, and of one."""

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
        "--streams", default="1,2,4,8,16", metavar="LIST", help="default: %(default)s"
    )
    parser.add_argument(
        "--drafters", default="none,auto", metavar="LIST", help="default: %(default)s"
    )
    parser.add_argument("--limit", type=int, default=32, metavar="N", help="requests")
    parser.add_argument("--max-prompt-tokens", type=int, default=640, metavar="N")
    parser.add_argument("--max-tokens", type=int, default=64, metavar="N")
    parser.add_argument(
        "--decoding-only", action="store_true", help="leave out the runs that read the prompts"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print."""
    import msgspec

    from rag.bench.concurrency import ConcurrencyRequest, bench_concurrency

    fields = {
        "data": [],
        "streams": _names(args.streams),
        "drafters": _names(args.drafters),
        "n_requests": max(1, args.limit),
        "max_prompt_tokens": max(64, args.max_prompt_tokens),
        "max_tokens": max(2, args.max_tokens),
        "new_prompts": not args.decoding_only,
    }
    try:
        request = msgspec.convert(fields, ConcurrencyRequest, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from error
    request = msgspec.structs.replace(request, data=args.data)
    for row in bench_concurrency(request, settings, TerminalProgress()):
        if wants_json(args):
            print_json(row)
            continue
        print(
            f"  {row.drafter:8}{row.n_streams:4} streams{row.tokens_per_s:9.1f} tokens/s, "
            f"{row.ratio:.2f}x"
            + (
                f"; with reading {row.answer_tokens_per_s:.1f} tokens/s, {row.answer_ratio:.2f}x, "
                f"first token after {row.first_token_ms:.0f} ms, at most "
                f"{row.last_first_token_ms:.0f}"
                if row.answer_tokens_per_s is not None
                else ""
            )
        )
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
