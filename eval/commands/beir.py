"""`rag eval beir`: retrieval over a BEIR folder or an ir_datasets id."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.chosen_index import chosen_index
from eval.commands.flags import (
    add_index_flags,
    add_measure_flag,
    add_search_flags,
    search_plan,
)
from indexes.errors import UsageError

if TYPE_CHECKING:
    from eval.dataset import Dataset
    from eval.record import RunRecord
    from rag.config import Settings

HELP = "retrieval over a BEIR folder or an ir_datasets id"
_SEARCHING = ("index", "retrievers", "passage_words", "search", "fusion", "out", "drop_self")


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval beir`."""
    parser = subparsers.add_parser("beir", help=HELP, description=HELP, parents=[common])
    parser.add_argument("dataset", metavar="PATH|ID", help="a BEIR folder or an ir_datasets id")
    parser.add_argument("--split", help="default: test, else the only one there is")
    parser.add_argument(
        "--run", type=Path, metavar="FILE", dest="run_file", help="score this TREC run instead"
    )
    parser.add_argument("--qrels", type=Path, metavar="FILE", help="other judgements")
    add_measure_flag(parser)
    parser.add_argument(
        "--index", metavar="NAME", help="searched as it is, or built with --retrievers"
    )
    add_index_flags(parser)
    add_search_flags(parser)
    parser.add_argument(
        "--limit", type=int, default=100, metavar="N", help="hits a query; default: %(default)s"
    )
    parser.add_argument(
        "--drop-self",
        action="store_true",
        default=None,
        help="drop the document that is the query; default: as the data set's protocol has it",
    )
    parser.add_argument("--keep-self", action="store_false", dest="drop_self")
    parser.add_argument(
        "--timed", type=int, default=50, metavar="N", help="queries served alone for the latency"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the timed queries' choice")
    parser.add_argument("--out", type=Path, metavar="RUN.trec.gz", help="and its record beside it")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.measures import DEFAULT_MEASURES, check_measures

    measures = args.measures or list(DEFAULT_MEASURES)
    check_measures(measures)
    if args.run_file:
        show(args, _score(args, measures))
    else:
        show(args, _search(args, settings, measures))
    return 0


def _score(args: argparse.Namespace, measures: list[str]) -> RunRecord:
    from eval.qrels import read_qrels
    from eval.retrieval import dataset_facts
    from eval.stored_run import score_stored_run

    needless = [name for name in _SEARCHING if getattr(args, name) is not None]
    if needless:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in needless)
        raise UsageError(f"--run scores a run that exists: {flags} cannot go with it")
    dataset = open_dataset(args.dataset, args.split)
    qrels = read_qrels(args.qrels) if args.qrels else dataset.qrels
    return score_stored_run(args.run_file, qrels, dataset_facts(dataset, qrels), measures)


def _search(args: argparse.Namespace, settings: Settings, measures: list[str]) -> RunRecord:
    from eval.batch_search import check_plan
    from eval.corpus_index import Corpus
    from eval.qrels import read_qrels
    from eval.record import run_name
    from eval.retrieval import RetrievalPlan, evaluate_retrieval, store_run
    from rag.cli.output import TerminalProgress
    from rag.service import Service

    if args.timed < 0:
        raise UsageError("--timed: 0 or more")
    dataset = open_dataset(args.dataset, args.split)
    drop_self = dataset.drop_self if args.drop_self is None else args.drop_self
    search = search_plan(args, limit=args.limit, drop_self=drop_self)
    check_plan(search)
    qrels = read_qrels(args.qrels) if args.qrels else None
    progress = TerminalProgress()
    origin = str(dataset.folder.resolve()) if dataset.folder else args.dataset
    corpus = Corpus(dataset.documents, dataset.folder)
    index = chosen_index(args, dataset.name, origin, corpus, settings, progress)
    name = run_name(args.out) if args.out else index
    service = Service(settings)
    try:
        run, record = evaluate_retrieval(
            service,
            index,
            dataset,
            RetrievalPlan(search, measures, args.timed, args.seed),
            progress,
            name=name,
            qrels=qrels,
        )
    finally:
        service.close()
    return store_run(args.out, run, record) if args.out else record


def open_dataset(name: str, split: str | None) -> Dataset:
    """The BEIR folder of that name, else the ir_datasets id."""
    from eval.beir import read_beir
    from eval.ir_data import read_ir_dataset

    return read_beir(Path(name), split) if Path(name).is_dir() else read_ir_dataset(name)


def show(args: argparse.Namespace, record: RunRecord) -> None:
    """Print the means: JSON with `measures`, `n_queries`, `n_missing`, `config`, or a table."""
    from eval.commands.text_table import write_measures
    from rag.cli.output import print_json, wants_json

    if wants_json(args):
        shape = ("measures", "n_queries", "n_missing", "config")
        print_json({name: getattr(record, name) for name in shape})
        return
    write_measures(record.measures)
    sys.stderr.write(f"{record.n_queries} queries, {record.n_missing} without any hit\n")
    if "total" in record.latency:
        spent = record.latency["total"]
        cold = record.cold_start_ms
        sys.stderr.write(
            f"one at a time: p50 {spent.p50_ms:.1f}, p95 {spent.p95_ms:.1f}, p99 {spent.p99_ms:.1f}"
            f" ms{'' if cold is None else f'; cold start {cold:.0f} ms'}\n"
        )
