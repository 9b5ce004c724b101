"""A search engine that is measured, and how its time is taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from rag.progress import Progress

Rows = NDArray[np.int64]


class Engine(msgspec.Struct, frozen=True):
    """A built index. `search` takes numbers of queries and returns each one's best rows.

    `batch` queries are handed over at a time. `build_s` is wall time on one thread; `n_bytes` what
    the index takes on disk, or in memory where it has no disk format; None where it cannot be
    told.
    """

    name: str
    search: Callable[[Sequence[int]], list[Rows]]
    build_s: float
    n_bytes: int | None
    batch: int = 1
    settings: str = ""


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds a query; with batches, a batch's over its size."""

    p50_ms: float
    p99_ms: float


def answers(engine: Engine, n_queries: int) -> list[Rows]:
    """What it finds for each query. Also its warm-up."""
    return [rows for batch in _batches(engine, n_queries) for rows in engine.search(batch)]


def latencies(
    engines: Sequence[Engine], n_queries: int, rounds: int, progress: Progress
) -> list[Latency]:
    """Percentiles over queries of the median round; engines take turns, so that all share noise."""
    spent: list[list[list[float]]] = [[] for _ in engines]
    progress.start("searching", rounds * len(engines), "round")
    for _ in range(rounds):
        for number, engine in enumerate(engines):
            spent[number].append(
                [timed(engine, batch) for batch in _batches(engine, n_queries)],
            )
            progress.advance(1)
    progress.finish()
    medians = [1000 * np.median(np.array(rounds_), axis=0) for rounds_ in spent]
    return [
        Latency(round(float(np.percentile(each, 50)), 4), round(float(np.percentile(each, 99)), 4))
        for each in medians
    ]


def timed(engine: Engine, queries: Sequence[int]) -> float:
    """Seconds a query."""
    started = time.perf_counter()
    engine.search(queries)
    return (time.perf_counter() - started) / len(queries)


def _batches(engine: Engine, n_queries: int) -> list[list[int]]:
    numbers = list(range(n_queries))
    return [numbers[at : at + engine.batch] for at in range(0, n_queries, engine.batch)]
