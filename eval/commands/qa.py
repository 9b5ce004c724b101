"""`rag eval qa`: end-to-end question answering."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.flags import (
    add_answer_flags,
    add_index_flags,
    add_sample_flag,
    add_search_flags,
    answer_plan,
    index_plan,
    wants_build,
)

if TYPE_CHECKING:
    from eval.record import RunRecord
    from rag.config import Settings

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
    from eval.answer_record import store_answers
    from eval.compressors import compressing_service
    from eval.corpus_index import default_name, ensure_index
    from eval.qa import evaluate_qa
    from eval.question_files import read_questions
    from eval.record import DatasetFacts
    from eval.sampling import sample
    from rag.cli.output import TerminalProgress

    plan = answer_plan(args)
    data = read_questions(args.data, args.split)
    questions = sample(data.questions, args.limit_questions, args.seed)
    progress = TerminalProgress()
    index = args.index
    if wants_build(args):
        build = index_plan(args)
        index = index or default_name(data.name, str(args.data.resolve()), build)
        ensure_index(index, data.corpus, build, settings, progress)
    service = compressing_service(settings, plan, index)
    try:
        facts = DatasetFacts(data.name, data.split)
        rows, record = evaluate_qa(
            service, index, facts, questions, plan, progress, name=run_name(args, index)
        )
    finally:
        service.close()
    show_answers(args, store_answers(args.out, rows, record) if args.out else record)
    return 0


def run_name(args: argparse.Namespace, index: str) -> str:
    """The record's name: that of the file it will lie beside, else the index'."""
    from eval.record import RECORD_ENDING, record_path

    return record_path(args.out).name.removesuffix(RECORD_ENDING) if args.out else index


def show_answers(args: argparse.Namespace, record: RunRecord) -> None:
    """Print the means, each with the number of questions it runs over, tokens and latency."""
    import msgspec

    from eval.commands.text_table import write_table
    from rag.cli.output import print_json, wants_json

    n = {name: len(values) for name, values in record.per_query.items()}
    if wants_json(args):
        shape = ("measures", "n_queries", "n_missing", "counts", "latency", "config")
        print_json({**{name: getattr(record, name) for name in shape}, "n": n})
        return
    rows = [[name, f"{value:.4f}", str(n[name])] for name, value in record.measures.items()]
    write_table(["measure", "value", "questions"], rows)
    counts = ", ".join(f"{name} {value}" for name, value in record.counts.items())
    sys.stderr.write(f"{record.n_queries} questions; {counts}\n")
    for stage, spent in record.latency.items():
        p50, p95, p99 = (f"{value:.0f}" for value in msgspec.structs.astuple(spent)[2:])
        sys.stderr.write(f"{stage:16} p50 {p50:>7} p95 {p95:>7} p99 {p99:>7} ms\n")
