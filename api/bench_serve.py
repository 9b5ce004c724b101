"""`rag bench serve`: searches per second and their latency under load, ours and txtai's."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from indexes.errors import EvidentError
from rag.cli.output import TerminalProgress, print_json, wants_json

if TYPE_CHECKING:
    from api.bench_servers import Running
    from api.load import Level
    from indexes.document import Document
    from indexes.manifest import Manifest
    from rag.config import Settings

CLIENTS = "1,8,32,128"
HITS = 10
QUERY_WORDS = (4, 10)
LEAST_WORDS = 12
"""Texts with fewer words give no queries."""


class Row(msgspec.Struct, frozen=True):
    """One engine under one number of clients. The ratio is of the throughputs."""

    engine: str
    clients: int
    served: int
    refused: int
    failed: int
    throughput_per_s: float
    p50_ms: float
    p99_ms: float
    memory_mb: float
    ratio_vs_txtai: float | None = None


class Report(msgspec.Struct, frozen=True):
    """All rows, and what was seen while documents came and went (None: not asked for)."""

    index: str
    n_documents: int
    retrievers: list[str]
    rows: list[Row]
    updates: dict[str, int] | None = None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("name", metavar="NAME", help="an index, read and for updates written to")
    parser.add_argument("--clients", default=CLIENTS, metavar="LIST", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of each level")
    parser.add_argument("--retrievers", default="", metavar="LIST", help="default: the dense one")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="our processes")
    parser.add_argument("--txtai", type=Path, metavar="PYTHON", help="a Python that has txtai[api]")
    parser.add_argument(
        "--updates", action="store_true", help="also search while documents are put and deleted"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print; 1 when a request failed or a deleted document was found."""
    from api.bench_servers import our_server
    from api.bench_updates import search_while_updating
    from indexes.library import index_folder, resolve_alias
    from indexes.snapshot import Snapshot

    snapshot = Snapshot(index_folder(settings.root, resolve_alias(settings.root, args.name)))
    names = [one for one in args.retrievers.split(",") if one] or _dense(snapshot.manifest)
    documents = [snapshot.document(key) for key in snapshot.live_ids()]
    snapshot.close()
    counts = [max(1, int(one)) for one in args.clients.split(",")]
    progress = TerminalProgress()
    updates = None
    with our_server(settings, ["--workers", str(args.workers)]) as server:
        asked = {"index": args.name, "retrievers": [{"name": n} for n in names], "limit": HITS}
        ours = _levels(
            "evident", server, counts, args, progress, _our_requests(documents, asked, args.seed)
        )
        if args.updates:
            progress.note("searching while documents are put and deleted")
            updates = search_while_updating(server.port, args.name, names, documents, args.seconds)
    theirs = []
    if args.txtai is not None:
        try:
            theirs = _txtai(args, settings, names, documents, counts, progress)
        except (EvidentError, OSError) as error:
            progress.note(f"txtai could not be measured: {error}")
    rates = {row.clients: row.throughput_per_s for row in theirs}
    ours = [_against(row, rates.get(row.clients)) for row in ours]
    report = Report(args.name, len(documents), names, [*ours, *theirs], updates)
    if wants_json(args):
        print_json(report)
    else:
        sys.stdout.write("\n".join(_lines(report)) + "\n")
    bad = sum(row.failed for row in ours)
    if updates is not None:
        bad += updates["failed"] + updates["deleted_found"]
    return 1 if bad else 0


def _txtai(
    args: argparse.Namespace,
    settings: Settings,
    names: Sequence[str],
    documents: Sequence[Document],
    counts: Sequence[int],
    progress: TerminalProgress,
) -> list[Row]:
    """The same corpus and dense model behind txtai's API."""
    from api.bench_servers import txtai_server
    from rag.models.resolver import resolve
    from rag.retrievers.retriever import KNOWN

    model = resolve(KNOWN[names[0]].model, settings.cache)
    progress.note("txtai: indexing the same documents")
    with txtai_server(args.txtai, model.folder, documents) as server:
        requests = _their_requests(documents, args.seed)
        return _levels("txtai", server, counts, args, progress, requests)


def _levels(
    engine: str,
    server: Running,
    counts: Sequence[int],
    args: argparse.Namespace,
    progress: TerminalProgress,
    requests: Iterator[bytes],
) -> list[Row]:
    from api.load import run_level

    run_level(server.port, 2, min(2.0, args.seconds), requests)
    rows = []
    for n_clients in counts:
        progress.note(f"{engine}: {n_clients} clients")
        level = run_level(server.port, n_clients, args.seconds, requests)
        rows.append(_row(engine, level, server.memory_mb()))
    return rows


def _row(engine: str, level: Level, memory_mb: float) -> Row:
    return Row(engine=engine, memory_mb=round(memory_mb, 1), **msgspec.structs.asdict(level))


def _against(row: Row, rate: float | None) -> Row:
    ratio = round(row.throughput_per_s / rate, 2) if rate else None
    return msgspec.structs.replace(row, ratio_vs_txtai=ratio)


def _dense(manifest: Manifest) -> list[str]:
    dense = [entry.name for entry in manifest.retrievers if entry.parts == ["dense"]]
    return dense[:1] or [manifest.retrievers[0].name]


def queries(documents: Sequence[Document], seed: int) -> Iterator[str]:
    """Stretches of the documents' own words, without end and hardly ever the same twice."""
    rng = random.Random(seed)
    texts = [words for one in documents if len(words := one.text.split()) >= LEAST_WORDS]
    while True:
        words = rng.choice(texts)
        n_words = rng.randint(*QUERY_WORDS)
        start = rng.randrange(max(1, len(words) - n_words))
        yield " ".join(words[start : start + n_words])


def _our_requests(
    documents: Sequence[Document], asked: dict[str, object], seed: int
) -> Iterator[bytes]:
    from api.load import request_bytes

    for query in queries(documents, seed):
        yield request_bytes("POST", "/v1/search", msgspec.json.encode(asked | {"query": query}))


def _their_requests(documents: Sequence[Document], seed: int) -> Iterator[bytes]:
    from api.load import request_bytes

    for query in queries(documents, seed):
        yield request_bytes("GET", f"/search?query={quote(query)}&limit={HITS}")


def _lines(report: Report) -> list[str]:
    layout = "{:10}{:>8}{:>9}{:>9}{:>8}{:>10}{:>10}{:>10}{:>11}{:>11}"
    head = ("engine", "clients", "served", "refused", "failed", "per s", "p50 ms", "p99 ms")
    lines = [layout.format(*head, "memory MB", "vs txtai")]
    for row in report.rows:
        values = list(msgspec.structs.astuple(row))
        lines.append(layout.format(*("-" if value is None else value for value in values)))
    if report.updates is not None:
        lines.append("while updating: " + ", ".join(f"{k} {v}" for k, v in report.updates.items()))
    return lines
