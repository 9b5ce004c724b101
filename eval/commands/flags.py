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
COMPRESSORS = ("auto", "sentences", "both", "words", "random", "idf", "llmlingua")


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


def add_index_flags(
    parser: argparse.ArgumentParser, *, retrievers: str = DEFAULT_RETRIEVERS
) -> None:
    """What is built, with these `retrievers` unless told otherwise."""
    parser.add_argument(
        "--retrievers",
        metavar="LIST",
        help=f"what the index holds, as `rag index build` takes it; default: {retrievers}",
    )
    parser.set_defaults(default_retrievers=retrievers)
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
    parser.add_argument("--fusion", metavar="METHOD", help="rrf[:k=60], weighted or from_zero")


def add_answer_flags(parser: argparse.ArgumentParser, *, limit: int) -> None:
    """How questions are answered, and where the answers go."""
    parser.add_argument(
        "--limit", type=int, default=limit, metavar="N", help="hits shown; default: %(default)s"
    )
    parser.add_argument("--max-tokens", type=int, default=128, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default) is greedy")
    parser.add_argument("--min-evidence", type=float, metavar="X", help="0..1")
    parser.add_argument(
        "--compress",
        metavar="RATE[,RATE]",
        help="0..1, of the evidence; with several every question is answered at each, 1 is not at "
        "all, and each has its own file beside --out",
    )
    parser.add_argument(
        "--compress-by",
        default="auto",
        metavar="HOW[,HOW]",
        help=f"{', '.join(COMPRESSORS)}; default: auto",
    )
    parser.add_argument("--seed", type=int, default=0, help="of decoding and of a sample")
    add_faithful_flags(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="the answers; or .jsonl.gz")


def add_sample_flag(parser: argparse.ArgumentParser) -> None:
    """`--limit-questions`."""
    parser.add_argument("--limit-questions", type=int, metavar="N", help="ask a sample of N")


def answer_plan(args: argparse.Namespace) -> AnswerPlan:
    """How to answer, where it is one way. Raises `UsageError` for several."""
    plans = list(answer_plans(args).values())
    if len(plans) > 1:
        raise UsageError("--compress, --compress-by: one of each here")
    return plans[0]


def answer_plans(args: argparse.Namespace) -> dict[str, AnswerPlan]:
    """The ways to answer by name, held to the bounds that the service's own requests have."""
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
    search = search_plan(args, limit=args.limit)
    plain = AnswerPlan(search, decode, args.min_evidence)
    plans: dict[str, AnswerPlan] = {}
    for rate in _rates(args.compress):
        for how in compressor_names(args.compress_by):
            if rate is None:
                plans["none"] = plain
                continue
            options = compression(rate, how)
            plans[f"{how}@{rate:g}"] = AnswerPlan(search, decode, args.min_evidence, options, how)
    for plan in plans.values():
        checked(answer_request("any", "?", plan))
    return plans


def _rates(given: str | None) -> list[float | None]:
    """None stands for no compression."""
    if given is None:
        return [None]
    try:
        rates = [float(rate) for rate in given.split(",")]
    except ValueError as error:
        raise UsageError(f"--compress: {given!r} is no list of numbers") from error
    return [None if rate == 1 else rate for rate in rates]


def compressor_names(given: str) -> list[str]:
    """A list of `COMPRESSORS`. Raises `UsageError` for anything else."""
    ways = given.split(",")
    for how in ways:
        if how not in COMPRESSORS:
            raise UsageError(f"--compress-by: {how!r} is none of {', '.join(COMPRESSORS)}")
    return ways


def index_plan(args: argparse.Namespace) -> IndexPlan:
    """What to build, from `--retrievers` and `--passage-words`."""
    from eval.corpus_index import IndexPlan
    from indexes.passages import PassageConfig
    from rag.retrievers.retriever import parse_specs

    words = args.passage_words
    if words is not None and words < 0:
        raise UsageError("--passage-words: 0 or more")
    passages = PassageConfig() if words is None else PassageConfig(max_words=words)
    return IndexPlan(parse_specs(args.retrievers or args.default_retrievers), passages)


def search_plan(args: argparse.Namespace, **others: Any) -> SearchPlan:
    """What to search, from `--search` and `--fusion`."""
    from eval.batch_search import SearchPlan
    from rag.cli.search import choices, fusion

    return SearchPlan(choices=choices(args.search), fusion=fusion(args.fusion), **others)
