"""`rag eval longctx`: RAPID against other ways to decode, by context length."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "RAPID against long-context, retrieval-only and plain speculative decoding, by length"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval longctx`."""
    parser = subparsers.add_parser("longctx", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="a BEIR folder with answers, an L-Eval or a BAMBOO file",
    )
    parser.add_argument("--lengths", default="1024,2048,4096", metavar="LIST", help="in tokens")
    parser.add_argument("--etas", default="0,5,10,20", metavar="LIST")
    parser.add_argument("--limit-questions", type=int, default=10, metavar="N")
    parser.add_argument("--max-tokens", type=int, default=32, metavar="N")
    parser.add_argument(
        "--draft-tokens", type=int, metavar="N", help="0..10; default: chosen while decoding"
    )
    parser.add_argument(
        "--draft-model", metavar="NAME", help="default: the generator drafts for itself"
    )
    parser.add_argument("--seed", type=int, default=13)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.long_decoding import LongDecodingPlan, long_decoding
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.generate.opening import open_generator
    from rag.generate.tokenizer_identity import check_same_tokenizer

    plan = LongDecodingPlan(
        data=args.data,
        lengths=_numbers(args.lengths, int, "--lengths"),
        etas=_numbers(args.etas, float, "--etas"),
        n_questions=max(1, args.limit_questions),
        max_tokens=max(2, args.max_tokens),
        draft_tokens=args.draft_tokens,
        seed=args.seed,
    )
    progress = TerminalProgress()
    target = open_generator(settings.generator, settings, progress)
    drafter = None
    if args.draft_model:
        drafter = open_generator(args.draft_model, settings, progress)
        check_same_tokenizer(target, drafter)
    for row in long_decoding(plan, target, drafter, progress):
        if wants_json(args):
            print_json(row)
            continue
        way = row.way if row.eta is None else f"{row.way} η={row.eta:g}"
        drafts = "" if row.alpha is None else f"  α {row.alpha:.2f}  γ {row.gamma:.1f}"
        sys.stdout.write(
            f"{row.length:6} {way:14} F1 {row.f1:.3f}  EM {row.em:.3f}"
            f"{row.tokens_per_s:8.1f} tokens/s  {row.speed_up:.2f}x"
            f"  prefill {row.prefill_ms / 1000:.1f} s{drafts}\n"
        )
    return 0


def _numbers(text: str, kind: type, flag: str) -> list[Any]:
    from indexes.errors import UsageError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from error
