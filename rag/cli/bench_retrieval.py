"""`rag bench retrieval`: milliseconds, recall, build time and bytes, ours and the peers'."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from indexes.errors import UsageError
from rag.cli.output import TerminalProgress, print_json, wants_json

if TYPE_CHECKING:
    from rag.bench.retrieval import RetrievalRow
    from rag.config import Settings

ENGINES = "evident,seismic,scipy,evident-bm25,bm25s,rank-bm25"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="PATH",
        help="BEIR folder; may be repeated, then their union is measured too",
    )
    parser.add_argument(
        "--synthetic",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="also N documents crossed over from the real vectors; may be repeated",
    )
    parser.add_argument("--engines", default=ENGINES, metavar="LIST", help="default: %(default)s")
    parser.add_argument(
        "--seismic-postings",
        metavar="LIST",
        help="shares of the documents that Seismic's lists keep, an index for each; "
        "default: 0.01,0.03,0.1, from 500,000 documents on the first",
    )
    parser.add_argument("--model", default="splade-tiny", help="default: %(default)s")
    parser.add_argument("--queries", type=int, default=200, metavar="N", help="of each corpus")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="encoded corpora and indexes are kept here (default: bench in the cache)",
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print."""
    from rag.bench.corpus_statistics import table
    from rag.bench.retrieval import RetrievalBenchRequest, bench_retrieval
    from rag.bench.seismic_engine import POSTINGS

    request = RetrievalBenchRequest(
        data=args.data,
        work=args.work or settings.cache / "bench",
        synthetic=[max(1, size) for size in args.synthetic],
        engines=[name.strip() for name in args.engines.split(",") if name.strip()],
        model=args.model,
        n_queries=max(1, args.queries),
        rounds=max(1, args.rounds),
        seed=args.seed,
        seismic_postings=_shares(args.seismic_postings) or POSTINGS,
    )
    progress = TerminalProgress()
    found = bench_retrieval(request, settings, progress)
    if wants_json(args):
        for line in table(found.statistics):
            progress.note(line)
        print_json(found.rows)
        return 0
    print("\n".join([*table(found.statistics), "", *_lines(found.rows)]))
    return 0


def _shares(given: str | None) -> list[float]:
    """Raises `UsageError` for what is no list of shares."""
    try:
        shares = [float(share) for share in (given or "").split(",") if share.strip()]
    except ValueError as error:
        raise UsageError(f"--seismic-postings: {given!r} is no list of numbers") from error
    if not all(0 < share <= 1 for share in shares):
        raise UsageError("--seismic-postings: each above 0, at most 1")
    return shares


def _lines(rows: list[RetrievalRow]) -> list[str]:
    layout = "{:18}{:>9} {:24}{:>10}{:>10}{:>10}{:>9}{:>11}  {}"
    head = ("corpus", "documents", "engine", "recall@10", "p50 ms", "p99 ms", "build s")
    return [
        layout.format(*head, "bytes/doc", ""),
        *(
            layout.format(
                row.corpus,
                row.n_docs,
                row.engine,
                f"{row.recall:.4f}",
                f"{row.p50_ms:.3f}",
                f"{row.p99_ms:.3f}",
                f"{row.build_s:.1f}",
                "" if row.bytes_per_doc is None else f"{row.bytes_per_doc:.0f}",
                row.settings,
            )
            for row in rows
        ),
    ]
