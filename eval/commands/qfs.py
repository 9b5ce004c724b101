"""`rag eval qfs`: query-focused summaries."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.flags import (
    add_answer_flags,
    add_index_flags,
    add_sample_flag,
    add_search_flags,
    answer_plan,
    index_plan,
)
from eval.commands.qa import run_name, show_answers

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "query-focused summaries over QMSum, SQuALITY or DebatePedia files"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval qfs`."""
    parser = subparsers.add_parser("qfs", help=HELP, description=HELP, parents=[common])
    parser.add_argument("data", type=Path, metavar="DATA", help="a file of JSON lines")
    parser.add_argument("--index", metavar="NAME", help="the index to build; default: made up")
    add_index_flags(parser)
    add_search_flags(parser)
    add_answer_flags(parser, limit=5)
    add_sample_flag(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.answer_record import store_answers
    from eval.compressors import compressing_service
    from eval.corpus_index import default_name, ensure_index
    from eval.qfs import evaluate_qfs, passages_corpus
    from eval.qfs_files import read_summaries
    from eval.sampling import sample
    from rag.cli.output import TerminalProgress

    plan = answer_plan(args)
    data = read_summaries(args.data)
    summaries = sample(data.summaries, args.limit_questions, args.seed)
    progress = TerminalProgress()
    build = index_plan(args)
    index = args.index or default_name(data.name, str(args.data.resolve()), build)
    ensure_index(index, passages_corpus(data), build, settings, progress)
    service = compressing_service(settings, plan, index)
    try:
        rows, record = evaluate_qfs(
            service, index, data, summaries, plan, progress, name=run_name(args, index)
        )
    finally:
        service.close()
    show_answers(args, store_answers(args.out, rows, record) if args.out else record)
    return 0
