"""`rag eval qa`: end-to-end question answering."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.chosen_index import chosen_index
from eval.commands.flags import (
    add_answer_flags,
    add_index_flags,
    add_sample_flag,
    add_search_flags,
    answer_plans,
)
from eval.commands.ways import answer_each_way, show_each_way

if TYPE_CHECKING:
    from eval.ask import Answered, AnswerPlan
    from eval.record import RunRecord
    from rag.config import Settings
    from rag.service import Service

HELP = "answers and citations over SQuAD, QED, MRQA files or a BEIR folder with answers"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval qa`."""
    parser = subparsers.add_parser("qa", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "index",
        metavar="INDEX",
        nargs="?",
        help="used as it is, or built with --retrievers; default: built from the data's own corpus",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="a file or a BEIR folder")
    parser.add_argument("--split", help="of a folder; default: test, else the only one there is")
    add_index_flags(parser)
    add_search_flags(parser)
    add_answer_flags(parser, limit=3)
    add_sample_flag(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.qa import measure_qa, qa_requests
    from eval.question_files import read_questions
    from eval.record import DatasetFacts
    from eval.sampling import sample
    from rag.cli.output import TerminalProgress

    answer_plans(args)  # What is wrong with them shows before an index is built.
    data = read_questions(args.data, args.split)
    questions = sample(data.questions, args.limit_questions, args.seed)
    origin = str(args.data.resolve())
    index = chosen_index(args, data.name, origin, data.corpus, settings, TerminalProgress())
    facts = DatasetFacts(data.name, data.split)

    def measure(
        service: Service, plan: AnswerPlan, answered: Answered, name: str
    ) -> tuple[Sequence[Any], RunRecord]:
        return measure_qa(service, index, facts, questions, plan, answered, name=name)

    records = answer_each_way(
        args, settings, index, lambda plan: qa_requests(index, questions, plan), measure
    )
    show_each_way(args, records)
    return 0
