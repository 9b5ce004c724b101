"""Seismic (Bruch et al. 2024, `pyseismic-lsr`), tuned: its fastest settings that find enough."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from indexes.representation import SparseRows
from rag.bench.engine import Engine, Rows, answers, timed
from rag.bench.exact_product import ExactProduct
from rag.bench.sparse_corpus import SparseCorpus
from rag.progress import Progress

TARGETS = (0.97, 0.99)
"""Recalls for which the fastest settings are reported."""

POSTINGS = (0.01, 0.03, 0.1)
"""`n_postings` as shares of the documents. A list keeps at most half as many again."""

QUERY_CUTS = (4, 6, 8, 10, 15, 20, 30)
HEAP_FACTORS = (1.0, 0.9, 0.8, 0.7)

CHUNK = 1 << 16
"""Documents handed over at a time."""

ROUNDS = 2


class _Note(msgspec.Struct, frozen=True):
    build_s: float


class _Trial(msgspec.Struct, frozen=True):
    engine: Engine
    recall: float
    seconds: float


def seismic_engines(
    corpus: SparseCorpus,
    exact: ExactProduct,
    work: Path,
    limit: int,
    shares: Sequence[float],
    progress: Progress,
) -> list[Engine]:
    """For each target the fastest settings that reach it, or else the most exact ones.

    Tuned on the very queries that are then measured, which favours it. Indexes are built on one
    thread, one for each share of the documents that is tried as `n_postings`.
    """
    trials: list[_Trial] = []
    settings = list(itertools.product(QUERY_CUTS, HEAP_FACTORS))
    queries = _queries(corpus.queries)
    progress.start("building and tuning Seismic", len(shares) * (len(settings) + 1), "setting")
    for share in shares:
        n_postings = max(1, round(share * corpus.documents.n_rows))
        folder = work / f"seismic-{corpus.name}-{corpus.key}-{n_postings}"
        index, build_s, n_bytes = _built(folder, corpus, n_postings)
        progress.advance(1)
        for cut, factor in settings:
            name = f"n_postings={n_postings} query_cut={cut} heap_factor={factor}"
            search = _Search(index, queries, limit, cut, factor)
            engine = Engine("seismic", search, build_s, n_bytes, settings=name)
            trials.append(_tried(engine, exact))
            progress.advance(1)
    progress.finish()
    return [_fastest(trials, target) for target in TARGETS]


class _Search:
    """One setting of one index."""

    def __init__(
        self, index: Any, queries: Sequence[Any], limit: int, cut: int, factor: float
    ) -> None:
        self._index, self._queries = index, queries
        self._limit, self._cut, self._factor = limit, cut, factor

    def __call__(self, numbers: Sequence[int]) -> list[Rows]:
        return [self._one(*self._queries[number]) for number in numbers]

    def _one(self, terms: Any, weights: Any) -> Rows:
        found = self._index.search("", terms, weights, self._limit, self._cut, self._factor)
        return np.array([int(key) for _, _, key in found], dtype=np.int64)


def _tried(engine: Engine, exact: ExactProduct) -> _Trial:
    n_queries = len(exact.least)
    recall = exact.recall(answers(engine, n_queries))
    spent = [[timed(engine, [number]) for number in range(n_queries)] for _ in range(ROUNDS)]
    return _Trial(engine, recall, float(np.median(np.min(spent, axis=0))))


def _fastest(trials: Sequence[_Trial], target: float) -> Engine:
    good = [trial for trial in trials if trial.recall >= target]
    best = (
        min(good, key=lambda trial: trial.seconds)
        if good
        else max(trials, key=lambda trial: trial.recall)
    )
    return msgspec.structs.replace(best.engine, name=f"seismic-{target}")


def _built(folder: Path, corpus: SparseCorpus, n_postings: int) -> tuple[Any, float, int]:
    """(index, seconds to build it on one thread, bytes on disk); built unless `folder` has it."""
    import seismic

    file, note = folder / "kept.index.seismic", folder / "bench.json"
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with _stdout_to_stderr():
            index = seismic.SeismicIndex.build_from_dataset(
                _dataset(corpus), n_postings=n_postings, num_threads=1
            )
            seconds = round(time.perf_counter() - started, 3)
            index.save(str(folder / "kept"))
        note.write_bytes(msgspec.json.encode(_Note(seconds)))
        del index
    with _stdout_to_stderr():
        index = seismic.SeismicIndex.load(str(file))
    return index, msgspec.json.decode(note.read_bytes(), type=_Note).build_s, file.stat().st_size


def _dataset(corpus: SparseCorpus) -> Any:
    import seismic

    dataset = seismic.SeismicDataset(dim=_dimension(corpus))
    rows = corpus.documents
    for start in range(0, rows.n_rows, CHUNK):
        stop = min(start + CHUNK, rows.n_rows)
        offsets = rows.indptr[start : stop + 1]
        span = slice(int(offsets[0]), int(offsets[-1]))
        dataset.add_documents_by_id(
            [str(number) for number in range(start, stop)],
            rows.term_ids[span].astype(np.int64),
            rows.weights[span],
            offsets - offsets[0],
        )
    return dataset


def _queries(rows: SparseRows) -> list[tuple[Any, Any]]:
    """As `search` wants them: components by number, spelt out, and weights."""
    import seismic

    kind = seismic.get_seismic_string()
    spans = [slice(int(a), int(b)) for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True)]
    return [
        (np.array([str(term) for term in rows.term_ids[span]], dtype=kind), rows.weights[span])
        for span in spans
    ]


def _dimension(corpus: SparseCorpus) -> int:
    return len(corpus.documents.vocabulary)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """It prints to the process's standard output, which is for data."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
