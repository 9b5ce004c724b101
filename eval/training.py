"""The dev measure of a training run: the model as it would be delivered, the harness's scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.beir import read_beir
from eval.measures import score_run
from eval.run import Run
from indexes.analyzer import Analyzer, AnalyzerConfig
from indexes.representation import Floats, QueryVector, SparseRows
from rag.config import Settings
from rag.progress import Silent
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import Retriever, RetrieverSpec, passage_input
from rag.train.dev import PICK, DevSet, Measure
from rag.train.pairs import PairSource

DEPTH = 100
MEASURES = (PICK, "R@100")


def dev_sets(data: Path, sources: Sequence[PairSource]) -> list[DevSet]:
    """Whole BEIR folders with all their judgements, grades and documents."""
    found = []
    for source in sources:
        dataset = read_beir(data / source.folder, source.split)
        found.append(
            DevSet(
                name=source.name,
                documents=list(dataset.documents()),
                queries={query.id: query.text for query in dataset.queries.values()},
                qrels=dataset.qrels,
            )
        )
    return found


def sparse_measure(sets: Sequence[DevSet], settings: Settings) -> Measure:
    """A measure of sparse retrievers: mean nDCG@10 over all sets, then each set's values.

    `sets` come before those that a run holds out itself. `terms_document` and `terms_query` are
    the mean numbers of terms. Documents are read whole up to the model's limit, not cut.
    """

    def measure(folder: Path, held_out: Sequence[DevSet]) -> dict[str, float]:
        spec = RetrieverSpec("trained", "splade", str(folder))
        retriever = open_retriever(
            entry_of(spec, settings, Silent()), Analyzer(AnalyzerConfig()), settings
        )
        values: dict[str, float] = {}
        terms: list[tuple[float, float]] = []
        for one in (*sets, *held_out):
            run, n_terms = _search(retriever, one)
            terms.append(n_terms)
            for name, value in score_run(one.qrels, run, MEASURES).measures.items():
                values[f"{one.name} {name}"] = round(value, 5)
        picked = [value for name, value in values.items() if name.endswith(PICK)]
        means = np.mean(terms, axis=0).round(1).tolist()
        return {
            PICK: round(float(np.mean(picked)), 5),
            "terms_document": means[0],
            "terms_query": means[1],
            **values,
        }

    return measure


def _search(retriever: Retriever, one: DevSet) -> tuple[Run, tuple[float, float]]:
    """The exact ranking, `DEPTH` deep, and the mean terms of documents and of queries."""
    texts = [passage_input(document.title, document.text) for document in one.documents]
    rows = retriever.encode_passages(texts, _nobody).sparse
    assert rows is not None
    queries = [found.vector for found in retriever.encode_queries(list(one.queries.values()))]
    scores = sparse_scores(rows, queries)
    ids = np.array([document.id for document in one.documents])
    run: Run = {}
    for query_id, values in zip(one.queries, scores, strict=True):
        best = np.argsort(-values, kind="stable")[:DEPTH]
        found = best[values[best] > 0]
        run[query_id] = dict(zip(ids[found].tolist(), values[found].tolist(), strict=True))
    n_terms = [len(query.sparse.terms) for query in queries if query.sparse is not None]
    return run, (len(rows.term_ids) / max(1, len(texts)), float(np.mean(n_terms)))


def sparse_scores(rows: SparseRows, queries: Sequence[QueryVector]) -> Floats:
    """Dot products `[queries, rows]`."""
    from scipy.sparse import csr_array

    columns = {term: number for number, term in enumerate(rows.vocabulary)}
    shape = (len(rows.indptr) - 1, len(columns))
    documents = csr_array((rows.weights, rows.term_ids.astype(np.int64), rows.indptr), shape=shape)
    asked = np.zeros((len(queries), len(columns)), dtype=np.float32)
    for number, query in enumerate(queries):
        if query.sparse is not None:
            places = [columns[term] for term in query.sparse.terms]
            asked[number, places] = query.sparse.weights
    return np.asarray(documents @ asked.T, dtype=np.float32).T


def _nobody(_: int) -> None:
    """Progress that nobody follows."""
