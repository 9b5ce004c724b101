"""`rag eval qfs`: query-focused summaries."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.flags import (
    add_answer_flags,
    add_index_flags,
    add_sample_flag,
    add_search_flags,
    answer_plans,
    index_plan,
)
from eval.commands.ways import answer_each_way, show_each_way

if TYPE_CHECKING:
    from eval.ask import Answered, AnswerPlan
    from eval.record import RunRecord
    from rag.config import Settings
    from rag.service import Service

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
    from eval.corpus_index import default_name, ensure_index
    from eval.qfs import measure_qfs, passages_corpus, qfs_requests
    from eval.qfs_files import read_summaries
    from eval.sampling import sample
    from rag.cli.output import TerminalProgress

    answer_plans(args)  # What is wrong with them shows before an index is built.
    data = read_summaries(args.data)
    summaries = sample(data.summaries, args.limit_questions, args.seed)
    build = index_plan(args)
    index = args.index or default_name(data.name, str(args.data.resolve()), build)
    ensure_index(index, passages_corpus(data), build, settings, TerminalProgress())

    def measure(
        service: Service, plan: AnswerPlan, answered: Answered, name: str
    ) -> tuple[Sequence[Any], RunRecord]:
        return measure_qfs(service, index, data, summaries, plan, answered, name=name)

    records = answer_each_way(
        args, settings, index, lambda plan: qfs_requests(index, summaries, plan), measure
    )
    show_each_way(args, records)
    return 0
