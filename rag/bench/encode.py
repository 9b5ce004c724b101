"""SPLADE encoding: ours against sentence-transformers, same weights, same texts, in one process.

The peer is what a person would write: `SparseEncoder(folder).encode(texts)`. Rounds alternate, so
that a noisy machine disturbs both alike; figures are medians. The floor is what no way can avoid
that multiplies every token's hidden state with every vocabulary row in float32: 2 · tokens · V · d
operations, timed as plain matrix products in blocks that fit the cache. Ours is below it where
the processor multiplies bytes (`rag.retrievers.screened_pooling`).
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np

from indexes.analyzer import Analyzer
from indexes.errors import InvalidInput, UsageError
from indexes.readers import read_documents
from indexes.rejects import Rejects
from indexes.representation import Floats, SparseRows
from rag.config import Settings
from rag.models.resolver import resolve
from rag.models.torch_runtime import quiet_transformers, use_threads
from rag.progress import Progress
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import parse_spec
from rag.retrievers.splade import SpladeRetriever
from rag.retrievers.worker_threads import WorkerThreads

BLOCK = 256
COLUMNS = 1024
"""The floor's products are `[256, d] × [d, 1024]`: of those tried the fastest on our machine."""


OURS, PEER, FLOOR = "evident", "sentence-transformers", "floor"


class EncodeBenchRequest(msgspec.Struct, frozen=True):
    """What to measure: a BEIR folder or anything else documents are read from, and a model."""

    data: Path
    model: str = "splade-tiny"
    limit: int = 128
    max_tokens: int = 256
    batch_size: int = 32
    rounds: int = 3


class EngineRow(msgspec.Struct, frozen=True):
    """One engine: documents a second by the median round; each round's seconds.

    `cpu_seconds` are of all threads, by the median: what a machine busy with other work changes
    least.
    """

    engine: str
    documents_per_s: float
    seconds: list[float]
    cpu_seconds: float


class _Spent(msgspec.Struct, frozen=True):
    wall_s: float
    cpu_s: float


class EncodeBench(msgspec.Struct, frozen=True):
    """What came of it.

    `ratio` is ours over the peer's documents per second, `cpu_ratio` the same by CPU time.
    `share_of_floor` is the floor's CPU time over ours: 1 is what would come of a float32 product
    alone.
    """

    model: str
    data: str
    n_documents: int
    n_tokens: int
    shortest_tokens: int
    longest_tokens: int
    max_tokens: int
    n_threads: int
    rows: list[EngineRow]
    ratio: float
    cpu_ratio: float
    max_abs_difference: float
    floor_gflop_per_s: float
    share_of_floor: float


def bench_encode(
    request: EncodeBenchRequest, settings: Settings, progress: Progress
) -> EncodeBench:
    """Measure. Raises `InvalidInput` when there are no documents, `UsageError` for another model.

    One round of each warms up and is not counted; it also compares the vectors.
    """
    import torch

    use_threads(settings.n_threads)
    texts = _texts(request)
    ours = _ours(request, settings, progress)
    peer = _peer(request, settings)
    n_terms, width = ours.documents.head_shape
    lengths = ours.documents.lengths(texts)
    progress.start("encoding", 2 * (request.rounds + 1), "round")
    rows = ours.encode_passages(texts, _nobody).sparse
    progress.advance(1)
    difference = 0.0 if rows is None else _difference(rows, peer, texts)
    progress.advance(1)
    engines: dict[str, Callable[[], Any]] = {
        OURS: lambda: ours.encode_passages(texts, _nobody),
        PEER: lambda: peer(texts),
        FLOOR: _floor(sum(lengths), n_terms, width),
    }
    spent: dict[str, list[_Spent]] = {name: [] for name in engines}
    for _ in range(request.rounds):
        for name, encode in engines.items():
            spent[name].append(_timed(encode))
            if name != FLOOR:
                progress.advance(1)
    progress.finish()
    wall = {name: median(round_.wall_s for round_ in spent[name]) for name in engines}
    cpu = {name: median(round_.cpu_s for round_ in spent[name]) for name in engines}
    return EncodeBench(
        model=request.model,
        data=request.data.name,
        n_documents=len(texts),
        n_tokens=sum(lengths),
        shortest_tokens=min(lengths),
        longest_tokens=max(lengths),
        max_tokens=ours.documents.max_tokens,
        n_threads=torch.get_num_threads(),
        rows=[
            EngineRow(
                engine=name,
                documents_per_s=round(len(texts) / wall[name], 2),
                seconds=[round(round_.wall_s, 4) for round_ in spent[name]],
                cpu_seconds=round(cpu[name], 4),
            )
            for name in engines
        ],
        ratio=round(wall[PEER] / wall[OURS], 3),
        cpu_ratio=round(cpu[PEER] / cpu[OURS], 3),
        max_abs_difference=difference,
        floor_gflop_per_s=round(2e-9 * sum(lengths) * n_terms * width / wall[FLOOR], 1),
        share_of_floor=round(cpu[FLOOR] / cpu[OURS], 3),
    )


def _texts(request: EncodeBenchRequest) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch, Rejects(Path(scratch) / "rejects") as rejects:
        reads = itertools.islice(read_documents([request.data], rejects), request.limit)
        texts = [f"{read.document.title} {read.document.text}".strip() for read in reads]
    if not texts:
        raise InvalidInput(f"{request.data} holds no documents")
    return texts


def _ours(request: EncodeBenchRequest, settings: Settings, progress: Progress) -> SpladeRetriever:
    spec = parse_spec(f"bench={request.model}:kind=splade:max_tokens={request.max_tokens}")
    entry = entry_of(spec, settings, progress)
    retriever = open_retriever(entry, Analyzer(), settings)
    if not isinstance(retriever, SpladeRetriever) or entry.params["pooling"] == "echo":
        raise UsageError(f"{request.model} is no masked language model: there is no peer for it")
    return retriever


def _peer(request: EncodeBenchRequest, settings: Settings) -> Callable[[list[str]], list[Any]]:
    from sentence_transformers import SparseEncoder

    folder = resolve(request.model, settings.cache).folder
    with quiet_transformers():
        encoder = SparseEncoder(
            str(folder), device=settings.device, local_files_only=True, trust_remote_code=False
        )
    encoder.max_seq_length = request.max_tokens

    def encode(texts: list[str]) -> list[Any]:
        found: list[Any] = encoder.encode_document(
            texts,
            batch_size=request.batch_size,
            show_progress_bar=False,
            convert_to_tensor=False,
        )
        return found

    return encode


def _difference(
    rows: SparseRows, peer: Callable[[list[str]], list[Any]], texts: list[str]
) -> float:
    """The largest absolute difference between our weights and the peer's, over all terms."""
    largest = 0.0
    for number, vector in enumerate(peer(texts)):
        theirs: Floats = vector.to_dense().cpu().numpy()
        mine = np.zeros_like(theirs)
        span = slice(int(rows.indptr[number]), int(rows.indptr[number + 1]))
        mine[rows.term_ids[span]] = rows.weights[span]
        largest = max(largest, float(np.abs(mine - theirs).max()))
    return largest


def _floor(n_tokens: int, n_terms: int, width: int) -> Callable[[], Any]:
    """The product alone over as many tokens and all of the vocabulary."""
    import torch

    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn((n_tokens, width), generator=generator)
    slices = torch.randn((n_terms, width), generator=generator).split(COLUMNS)
    blocks = hidden.split(BLOCK)
    workers = WorkerThreads(torch.get_num_threads())

    def multiply(block: torch.Tensor) -> None:
        memory = torch.empty(BLOCK * COLUMNS)
        for part in slices:
            out = memory[: len(block) * len(part)].view(len(block), len(part))
            torch.mm(block, part.t(), out=out)

    return lambda: deque(workers.map(multiply, blocks), maxlen=0)


def _timed(work: Callable[[], Any]) -> _Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return _Spent(time.perf_counter() - wall, time.process_time() - cpu)


def _nobody(_: int) -> None:
    """Progress that nobody follows."""
