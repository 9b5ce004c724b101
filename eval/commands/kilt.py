"""`rag eval kilt`: KILT's own numbers for a guess file, and guesses by the service."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.flags import add_answer_flags, add_search_flags, answer_plan
from indexes.errors import UsageError

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "KILT's measures: R-precision, Recall@k, accuracy, EM, F1, ROUGE-L, KILT-*"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval kilt`."""
    parser = subparsers.add_parser("kilt", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="GUESS.jsonl GOLD.jsonl; with --run: QUESTIONS.jsonl",
    )
    parser.add_argument(
        "--ks", default="1,5", metavar="LIST", help="cut-offs; default: %(default)s"
    )
    parser.add_argument(
        "--rank-keys",
        default="wikipedia_id",
        metavar="LIST",
        help="what identifies a page; default: %(default)s",
    )
    parser.add_argument(
        "--run", metavar="INDEX", dest="index", help="answer the questions and write --out"
    )
    add_search_flags(parser)
    add_answer_flags(parser, limit=3)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    if args.index is not None:
        return _guess(args, settings)
    if len(args.files) != 2:
        raise UsageError("give GUESS.jsonl and GOLD.jsonl, or --run INDEX and QUESTIONS.jsonl")
    if args.out is not None:
        raise UsageError("--out is for the guesses that --run makes")
    return _score(args)


def _score(args: argparse.Namespace) -> int:
    from eval.commands.text_table import write_measures
    from eval.kilt import score_kilt
    from rag.cli.output import print_json, wants_json

    guess, gold = args.files
    scores = score_kilt(guess, gold, _cutoffs(args.ks), args.rank_keys.split(","))
    if wants_json(args):
        print_json(scores)
        return 0
    write_measures(scores.kilt | scores.downstream | scores.retrieval)
    sys.stderr.write(f"{scores.n_queries} questions, {scores.n_empty} without an answer\n")
    return 0


def _guess(args: argparse.Namespace, settings: Settings) -> int:
    from eval.journal import answer_journal
    from eval.kilt_guess import guess_kilt
    from eval.lines import write_json_lines
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.service import Service

    if len(args.files) != 1 or args.out is None:
        raise UsageError("--run takes one file of questions, and --out for the guesses")
    service = Service(settings)
    try:
        plan = answer_plan(args)
        with answer_journal(args.out, service, args.index, plan) as journal:
            guesses = guess_kilt(
                service, args.index, args.files[0], plan, TerminalProgress(), journal
            )
            write_json_lines(args.out, guesses)
    finally:
        service.close()
    if wants_json(args):
        print_json({"guesses": str(args.out), "n_queries": len(guesses)})
    else:
        sys.stdout.write(f"{args.out}: {len(guesses)} guesses\n")
    return 0


def _cutoffs(text: str) -> list[int]:
    try:
        cutoffs = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--ks: {text!r} is no list of whole numbers") from error
    if min(cutoffs) < 1:
        raise UsageError("--ks: cut-offs begin at 1")
    return cutoffs
