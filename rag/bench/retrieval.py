"""Sparse retrieval: our postings against Seismic and scipy, our BM25 against bm25s and rank-bm25.

All engines of a corpus hold the very same vectors, or token lists, answer the same queries on one
thread and take turns; recall is against the exact product (BM25: against rank-bm25). Indexes and
encoded corpora are kept in the work folder and built once, their build time with them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from indexes.errors import UsageError
from indexes.representation import take_rows
from rag.bench.bm25_engines import (
    TokenCorpus,
    analysed,
    bm25s_engine,
    own_bm25,
    rank_bm25_engine,
)
from rag.bench.corpus_statistics import CorpusStatistics, corpus_statistics
from rag.bench.engine import Engine, Rows, answers, latencies
from rag.bench.exact_product import exact_product
from rag.bench.own_engines import own_engines
from rag.bench.scipy_engine import scipy_engine
from rag.bench.seismic_engine import POSTINGS, seismic_engines
from rag.bench.sparse_corpus import SparseCorpus, Texts, encode_corpora, pooled, read_texts
from rag.bench.synthetic_corpus import synthetic_corpus
from rag.config import Settings
from rag.progress import Progress

LIMIT = 10
"""Documents asked for: recall@10."""

ENGINES = ("evident", "seismic", "scipy", "evident-bm25", "bm25s", "rank-bm25")
IMPACTS = {"evident", "seismic", "scipy"}
_NEEDED = {
    "scipy": ("eval", IMPACTS),
    "seismic": ("bench", {"seismic"}),
    "bm25s": ("bench", {"bm25s"}),
}
"""Module → the optional group it is in, and the engines that cannot do without."""


class RetrievalBenchRequest(msgspec.Struct, frozen=True):
    """What to measure: BEIR folders (with several also their union), and synthetic sizes.

    `n_queries` are drawn from each corpus. Of Seismic's indexes at or above `large` documents only
    the first of `seismic_postings` is built: each takes very long.
    """

    data: list[Path]
    work: Path
    synthetic: list[int] = []
    engines: Sequence[str] = ENGINES
    model: str = "splade-tiny"
    n_queries: int = 200
    rounds: int = 3
    seed: int = 1
    seismic_postings: Sequence[float] = POSTINGS
    large: int = 500_000


class RetrievalRow(msgspec.Struct, frozen=True):
    """One engine on one corpus. Milliseconds a query, on one thread.

    `build_s` is from vectors (BM25: token lists) in memory, on one thread. `settings` are the
    peer's, where it was tuned.
    """

    corpus: str
    engine: str
    n_docs: int
    n_queries: int
    recall: float = msgspec.field(name="recall@10")
    p50_ms: float
    p99_ms: float
    build_s: float
    bytes_per_doc: float | None
    settings: str


class RetrievalBench(msgspec.Struct, frozen=True):
    """What came of it; `statistics` of the corpora in the rows' order."""

    rows: list[RetrievalRow]
    statistics: list[CorpusStatistics]


def bench_retrieval(
    request: RetrievalBenchRequest, settings: Settings, progress: Progress
) -> RetrievalBench:
    """Measure. Raises `UsageError` for an unknown engine or one that is not installed."""
    _check(request.engines)
    request.work.mkdir(parents=True, exist_ok=True)
    rows: list[RetrievalRow] = []
    statistics: list[CorpusStatistics] = []
    if IMPACTS & set(request.engines):
        for corpus in _corpora(request, settings, progress):
            statistics.append(corpus_statistics(corpus))
            rows += _bench_impacts(corpus, request, progress)
    if set(request.engines) - IMPACTS:
        for tokens in _token_corpora(request, progress):
            rows += _bench_bm25(tokens, request, progress)
    return RetrievalBench(rows, statistics)


def _corpora(
    request: RetrievalBenchRequest, settings: Settings, progress: Progress
) -> Iterable[SparseCorpus]:
    """The corpora one after another: a large one is let go of before the next."""
    real = encode_corpora(request.data, request.model, settings, request.work, progress)
    yield from real
    if len(real) > 1:
        yield pooled(real)
    for n_documents in request.synthetic:
        yield synthetic_corpus(real, n_documents, request.seed, request.work, progress)


def _bench_impacts(
    corpus: SparseCorpus, request: RetrievalBenchRequest, progress: Progress
) -> list[RetrievalRow]:
    drawn = _drawn(corpus.queries.n_rows, request)
    corpus = msgspec.structs.replace(corpus, queries=take_rows(corpus.queries, drawn))
    n_docs = corpus.documents.n_rows
    progress.note(f"{corpus.name}: {n_docs} documents, {len(drawn)} queries")
    exact = exact_product(corpus.documents, corpus.queries, LIMIT)
    engines: list[Engine] = []
    if "evident" in request.engines:
        engines += own_engines(corpus, request.work, LIMIT)
    if "scipy" in request.engines:
        engines.append(scipy_engine(corpus, LIMIT))
    if "seismic" in request.engines:
        shares = request.seismic_postings[: 1 if n_docs >= request.large else None]
        engines += seismic_engines(corpus, exact, request.work, LIMIT, shares, progress)
    found = [answers(engine, len(drawn)) for engine in engines]
    recalls = [exact.recall(rows) for rows in found]
    return _rows(corpus.name, n_docs, engines, recalls, len(drawn), request, progress)


def _token_corpora(request: RetrievalBenchRequest, progress: Progress) -> Iterable[TokenCorpus]:
    texts = [read_texts(folder) for folder in request.data]
    named = [(folder.name, each) for folder, each in zip(request.data, texts, strict=True)]
    if len(texts) > 1:
        union = Texts(
            [text for each in texts for text in each.documents],
            [text for each in texts for text in each.queries],
        )
        named.append(("pooled", union))
    for name, each in named:
        progress.note(f"{name}: analysing {len(each.documents)} documents for BM25")
        drawn = _drawn(len(each.queries), request)
        yield analysed(name, Texts(each.documents, [each.queries[n] for n in drawn]))


def _bench_bm25(
    corpus: TokenCorpus, request: RetrievalBenchRequest, progress: Progress
) -> list[RetrievalRow]:
    reference, exact = rank_bm25_engine(corpus, LIMIT)
    engines: list[Engine] = []
    if "evident-bm25" in request.engines:
        engines.append(own_bm25(corpus, request.work, LIMIT))
    if "bm25s" in request.engines:
        engines.append(bm25s_engine(corpus, LIMIT))
    if "rank-bm25" in request.engines:
        engines.append(reference)
    n_queries = len(corpus.queries)
    recalls = [exact.recall(answers(engine, n_queries)) for engine in engines]
    n_docs = len(corpus.documents)
    return _rows(corpus.name, n_docs, engines, recalls, n_queries, request, progress)


def _rows(
    corpus: str,
    n_docs: int,
    engines: Sequence[Engine],
    recalls: Sequence[float],
    n_queries: int,
    request: RetrievalBenchRequest,
    progress: Progress,
) -> list[RetrievalRow]:
    times = latencies(engines, n_queries, request.rounds, progress)
    return [
        RetrievalRow(
            corpus=corpus,
            engine=engine.name,
            n_docs=n_docs,
            n_queries=n_queries,
            recall=round(recall, 4),
            p50_ms=time.p50_ms,
            p99_ms=time.p99_ms,
            build_s=engine.build_s,
            bytes_per_doc=None if engine.n_bytes is None else round(engine.n_bytes / n_docs, 1),
            settings=engine.settings,
        )
        for engine, recall, time in zip(engines, recalls, times, strict=True)
    ]


def _drawn(n_queries: int, request: RetrievalBenchRequest) -> Rows:
    """Numbers of the queries that are asked, in no order."""
    generator = np.random.default_rng(request.seed)
    return generator.permutation(n_queries)[: request.n_queries]


def _check(engines: Sequence[str]) -> None:
    unknown = sorted(set(engines) - set(ENGINES))
    if unknown or not engines:
        raise UsageError(f"unknown engine {', '.join(unknown)!r}; known: {', '.join(ENGINES)}")
    for module, (group, users) in _NEEDED.items():
        if users & set(engines):
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise UsageError(
                    f"{module} is not installed: pip install 'evident-rag[{group}]', or choose "
                    f"other engines than {', '.join(sorted(users))} with --engines"
                ) from error
