"""`rag eval rerank`: the documents of a stored run, in another order."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.beir import show
from eval.commands.chosen_index import chosen_index
from eval.commands.flags import (
    add_index_flags,
    add_measure_flag,
    add_search_flags,
    search_plan,
)

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "re-rank a stored run, so that published figures can be compared"
RERANKERS = "splade,minilm"
"""Picked on training questions of Natural Questions and SQuAD, over BM25's best 50: what BM25 has
chosen already, it can rank no better, so it is not among them."""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval rerank`."""
    parser = subparsers.add_parser("rerank", help=HELP, description=HELP, parents=[common])
    parser.add_argument("run_file", type=Path, metavar="RUN", help="a TREC run")
    parser.add_argument(
        "--corpus",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="a BEIR folder with the run's queries and documents",
    )
    parser.add_argument("--split", help="default: test, else the only one there is")
    parser.add_argument(
        "--qrels", type=Path, metavar="FILE", help="other judgements: the full ones"
    )
    add_measure_flag(parser)
    parser.add_argument("--index", metavar="NAME", help="used as it is, or built with --retrievers")
    add_index_flags(parser, retrievers=RERANKERS)
    add_search_flags(parser)
    # Picked on SciFact train: candidates that one retriever chose lie far above its zero.
    parser.set_defaults(fusion="from_zero")
    parser.add_argument(
        "--depth", type=int, default=1000, metavar="N", help="how many of each query's documents"
    )
    parser.add_argument("--out", type=Path, metavar="RUN.trec.gz", help="and its record beside it")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.batch_search import check_plan
    from eval.beir import read_beir
    from eval.corpus_index import Corpus
    from eval.measures import DEFAULT_MEASURES, check_measures
    from eval.qrels import read_qrels
    from eval.record import run_name
    from eval.rerank import read_stored_run, rerank
    from eval.retrieval import store_run
    from rag.cli.output import TerminalProgress
    from rag.service import Service

    measures = args.measures or list(DEFAULT_MEASURES)
    check_measures(measures)
    search = search_plan(args, limit=args.depth)
    check_plan(search)
    stored = read_stored_run(args.run_file)
    dataset = read_beir(args.corpus, args.split)
    qrels = read_qrels(args.qrels) if args.qrels else None
    progress = TerminalProgress()
    corpus = Corpus(dataset.documents, args.corpus)
    origin = str(args.corpus.resolve())
    index = chosen_index(args, dataset.name, origin, corpus, settings, progress)
    name = run_name(args.out) if args.out else index
    service = Service(settings)
    try:
        run, record = rerank(
            service,
            index,
            dataset,
            stored,
            search,
            progress,
            name=name,
            qrels=qrels,
            measures=measures,
        )
    finally:
        service.close()
    show(args, store_run(args.out, run, record) if args.out else record)
    return 0
