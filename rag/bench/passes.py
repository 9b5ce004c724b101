"""What one pass for all retrievers costs, against the slowest of them alone.

Passages go through `rag.represent`, as a build's do: once by each retriever alone, once by all
together. Rounds alternate, so that a noisy machine disturbs all alike; figures are medians.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec

from indexes.analyzer import Analyzer
from indexes.document_store import StoredDocument, with_hash
from indexes.errors import InvalidInput
from indexes.passages import PassageConfig
from indexes.readers import read_documents
from indexes.rejects import Rejects
from indexes.representation import PassageVectors
from indexes.segment import write_segment
from rag.config import Settings
from rag.models.torch_runtime import use_threads
from rag.progress import Deferred, Progress, Silent
from rag.represent import cut, represent
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import Retriever, parse_specs

TOGETHER = "together"


class PassesBenchRequest(msgspec.Struct, frozen=True):
    """What to measure: documents of a BEIR folder or anything that documents are read from."""

    data: list[Path]
    retrievers: str = "bm25,minilm,splade,dupmae"
    limit: int = 10_000
    rounds: int = 1


class PassRow(msgspec.Struct, frozen=True):
    """One way of reading: wall seconds of each round, the median CPU seconds of all threads.

    `bytes_per_document` is what the index keeps of it on disk.
    """

    name: str
    seconds: list[float]
    cpu_seconds: float
    bytes_per_document: float


class PassesBench(msgspec.Struct, frozen=True):
    """What came of it.

    `ratio` is the pass of all together over the slowest retriever's alone, by median wall time,
    `cpu_ratio` by CPU time: what a machine busy with other work changes least. `sum_ratio` is all
    together over the sum of all alone, by CPU time.
    """

    n_documents: int
    n_passages: int
    rows: list[PassRow]
    slowest: str
    ratio: float
    cpu_ratio: float
    sum_ratio: float


class _Spent(msgspec.Struct, frozen=True):
    wall_s: float
    cpu_s: float


def bench_passes(
    request: PassesBenchRequest, settings: Settings, progress: Progress
) -> PassesBench:
    """Measure. Raises `InvalidInput` when there are no documents, `UsageError` for retrievers."""
    use_threads(settings.n_threads)
    documents = _documents(request)
    analyzer = Analyzer()
    retrievers = [
        open_retriever(entry_of(spec, settings, progress), analyzer, settings)
        for spec in parse_specs(request.retrievers)
    ]
    ways = {one.entry.name: [one] for one in retrievers} | {TOGETHER: retrievers}
    spent: dict[str, list[_Spent]] = {name: [] for name in ways}
    vectors: dict[str, PassageVectors] = {}
    for chosen in ways.values():
        represent(documents[:8], chosen, Deferred(Silent()))
    progress.start("encoding", request.rounds * len(ways), "pass")
    for _ in range(request.rounds):
        for name, chosen in ways.items():
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            vectors = represent(documents, chosen, Deferred(Silent()))
            spent[name].append(_Spent(time.perf_counter() - wall_s, time.process_time() - cpu_s))
            progress.advance(1)
    progress.finish()
    # The last way of each round was all together: those vectors are everybody's.
    sizes = _sizes(documents, vectors, retrievers)
    wall = {name: median(one.wall_s for one in some) for name, some in spent.items()}
    cpu = {name: median(one.cpu_s for one in some) for name, some in spent.items()}
    alone = [one.entry.name for one in retrievers]
    slowest = max(alone, key=lambda name: cpu[name])
    return PassesBench(
        n_documents=len(documents),
        n_passages=sum(len(one.spans) for one in documents),
        rows=[
            PassRow(
                name=name,
                seconds=[round(one.wall_s, 3) for one in some],
                cpu_seconds=round(cpu[name], 3),
                bytes_per_document=round(sizes[name] / len(documents), 1),
            )
            for name, some in spent.items()
        ],
        slowest=slowest,
        ratio=round(wall[TOGETHER] / wall[slowest], 3),
        cpu_ratio=round(cpu[TOGETHER] / cpu[slowest], 3),
        sum_ratio=round(cpu[TOGETHER] / sum(cpu[name] for name in alone), 3),
    )


def _documents(request: PassesBenchRequest) -> list[StoredDocument]:
    with tempfile.TemporaryDirectory() as scratch, Rejects(Path(scratch) / "rejects") as rejects:
        reads = itertools.islice(read_documents(request.data, rejects), request.limit)
        found = [cut(with_hash(read.document, []), PassageConfig()) for read in reads]
    if not found:
        raise InvalidInput(f"{', '.join(map(str, request.data))}: no documents")
    return found


def _sizes(
    documents: Sequence[StoredDocument],
    vectors: Mapping[str, PassageVectors],
    retrievers: Sequence[Retriever],
) -> dict[str, int]:
    """Bytes on disk of each retriever's files; under `TOGETHER` of all the segment's."""
    entries = [one.entry for one in retrievers]
    with tempfile.TemporaryDirectory() as scratch:
        files = write_segment(Path(scratch) / "segment", documents, vectors, entries).files
    found = {
        entry.name: sum(
            file.bytes for name, file in files.items() if name.startswith(f"{entry.name}.")
        )
        for entry in entries
    }
    return found | {TOGETHER: sum(file.bytes for file in files.values())}
