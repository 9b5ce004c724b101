"""Flags that several evaluations share, and the plans they spell."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.errors import UsageError
from rag.cli.decode_flags import add_faithful_flags, faithful_options

if TYPE_CHECKING:
    from eval.ask import AnswerPlan
    from eval.batch_search import SearchPlan
    from eval.corpus_index import IndexPlan

DEFAULT_RETRIEVERS = "bm25,minilm"
COMPRESSORS = ("auto", "sentences", "words", "random", "idf", "llmlingua")


def add_measure_flag(parser: argparse.ArgumentParser) -> None:
    """`--measure`, repeatable."""
    parser.add_argument(
        "--measure",
        action="append",
        default=[],
        metavar="M",
        dest="measures",
        help="an ir-measures string; may be repeated",
    )


def add_index_flags(parser: argparse.ArgumentParser) -> None:
    """What is built."""
    parser.add_argument(
        "--retrievers",
        metavar="LIST",
        help=f"what the index holds, as `rag index build` takes it; default: {DEFAULT_RETRIEVERS}",
    )
    parser.add_argument(
        "--passage-words", type=int, metavar="N", help="0: never split; default: 300"
    )


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """What is searched."""
    parser.add_argument(
        "--search",
        metavar="LIST",
        help="NAME[:limit=N][:weight=W],... of the index's retrievers; default: all of them",
    )
    parser.add_argument("--fusion", metavar="METHOD", help="rrf[:k=60] or weighted")


def add_answer_flags(parser: argparse.ArgumentParser, *, limit: int) -> None:
    """How questions are answered, and where the answers go."""
    parser.add_argument(
        "--limit", type=int, default=limit, metavar="N", help="hits shown; default: %(default)s"
    )
    parser.add_argument("--max-tokens", type=int, default=128, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default) is greedy")
    parser.add_argument("--min-evidence", type=float, metavar="X", help="0..1")
    parser.add_argument("--compress", type=float, metavar="RATE", help="0..1, of the evidence")
    parser.add_argument(
        "--compress-by",
        choices=COMPRESSORS,
        default="auto",
        metavar="HOW",
        help=f"{', '.join(COMPRESSORS)}; default: auto",
    )
    parser.add_argument("--seed", type=int, default=0, help="of decoding and of a sample")
    add_faithful_flags(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="the answers; or .jsonl.gz")


def add_sample_flag(parser: argparse.ArgumentParser) -> None:
    """`--limit-questions`."""
    parser.add_argument("--limit-questions", type=int, metavar="N", help="ask a sample of N")


def answer_plan(args: argparse.Namespace) -> AnswerPlan:
    """How to answer, held to the bounds that the service's own requests have."""
    from eval.ask import AnswerPlan, answer_request
    from eval.compressors import compression
    from rag.answer import Decode
    from rag.cli.search import checked

    decode = Decode(
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        seed=args.seed,
        **faithful_options(args),
    )
    compress = None if args.compress is None else compression(args.compress, args.compress_by)
    plan = AnswerPlan(
        search_plan(args, limit=args.limit),
        decode,
        args.min_evidence,
        compress,
        args.compress_by,
    )
    checked(answer_request("any", "?", plan))
    return plan


def index_plan(args: argparse.Namespace) -> IndexPlan:
    """What to build, from `--retrievers` and `--passage-words`."""
    from eval.corpus_index import IndexPlan
    from indexes.passages import PassageConfig
    from rag.retrievers.retriever import parse_specs

    words = args.passage_words
    if words is not None and words < 0:
        raise UsageError("--passage-words: 0 or more")
    passages = PassageConfig() if words is None else PassageConfig(max_words=words)
    return IndexPlan(parse_specs(args.retrievers or DEFAULT_RETRIEVERS), passages)


def search_plan(args: argparse.Namespace, **others: Any) -> SearchPlan:
    """What to search, from `--search` and `--fusion`."""
    from eval.batch_search import SearchPlan
    from rag.cli.search import choices, fusion

    return SearchPlan(choices=choices(args.search), fusion=fusion(args.fusion), **others)
