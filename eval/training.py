"""The dev measure of a training run: the model as it would be delivered, the harness's scores."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
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

DUPLEX_TOKENS = 128
"""What a duplex retriever reads of a document while it is trained: measuring has to be cheap."""


def dev_sets(data: Path, sources: Sequence[PairSource]) -> list[DevSet]:
    """BEIR folders with their judgements, grades and documents.

    Whole, or where a source says so `n_queries` questions, picked by hash, and only the documents
    that are judged for any of those: a smaller pool in which every document is a likely answer.
    """
    found = []
    for source in sources:
        dataset = read_beir(data / source.folder, source.split)
        chosen = sorted(dataset.queries, key=lambda key: sha256(key.encode()).digest())
        qrels = {key: dataset.qrels[key] for key in chosen[: source.n_queries or len(chosen)]}
        judged = {document for grades in qrels.values() for document in grades}
        found.append(
            DevSet(
                name=source.name,
                documents=[
                    document
                    for document in dataset.documents()
                    if source.documents == "all" or document.id in judged
                ],
                queries={key: dataset.queries[key].text for key in qrels},
                qrels=qrels,
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


def duplex_measure(sets: Sequence[DevSet], settings: Settings) -> Measure:
    """A measure of duplex retrievers: mean nDCG@10 over all sets of both halves together.

    `dense` and `lexical` are the same mean of each half alone; then each set's values. Documents
    are cut after `DUPLEX_TOKENS`.
    """

    def measure(folder: Path, held_out: Sequence[DevSet]) -> dict[str, float]:
        params = {"max_tokens": DUPLEX_TOKENS}
        spec = RetrieverSpec("trained", "dupmae", str(folder), params)
        retriever = open_retriever(
            entry_of(spec, settings, Silent()), Analyzer(AnalyzerConfig()), settings
        )
        values: dict[str, float] = {}
        halves: dict[str, list[float]] = {}
        for one in (*sets, *held_out):
            for name, scores in _duplex_scores(retriever, one).items():
                found = score_run(one.qrels, _run(one, scores), (PICK,)).measures[PICK]
                halves.setdefault(name, []).append(found)
                if name == PICK:
                    values[f"{one.name} {PICK}"] = round(found, 5)
        return {name: round(float(np.mean(some)), 5) for name, some in halves.items()} | values

    return measure


def _duplex_scores(retriever: Retriever, one: DevSet) -> dict[str, Floats]:
    """Scores `[queries, documents]` of both halves together, by the name `PICK`, and of each."""
    passages = retriever.encode_passages(_texts(one), _nobody)
    queries = [found.vector for found in retriever.encode_queries(list(one.queries.values()))]
    assert passages.sparse is not None
    assert passages.dense is not None
    lexical = sparse_scores(passages.sparse, queries)
    asked = np.stack([query.dense for query in queries if query.dense is not None])
    dense: Floats = asked @ passages.dense.T
    return {PICK: dense + lexical, "dense": dense, "lexical": lexical}


def _search(retriever: Retriever, one: DevSet) -> tuple[Run, tuple[float, float]]:
    """The exact ranking, `DEPTH` deep, and the mean terms of documents and of queries."""
    rows = retriever.encode_passages(_texts(one), _nobody).sparse
    assert rows is not None
    queries = [found.vector for found in retriever.encode_queries(list(one.queries.values()))]
    scores = sparse_scores(rows, queries)
    n_terms = [len(query.sparse.terms) for query in queries if query.sparse is not None]
    n_documents = max(1, len(one.documents))
    return _run(one, scores), (len(rows.term_ids) / n_documents, float(np.mean(n_terms)))


def _run(one: DevSet, scores: Floats) -> Run:
    """The best `DEPTH` documents of each question, those that score above 0."""
    ids = np.array([document.id for document in one.documents])
    run: Run = {}
    for query_id, values in zip(one.queries, scores, strict=True):
        best = np.argsort(-values, kind="stable")[:DEPTH]
        found = best[values[best] > 0]
        run[query_id] = dict(zip(ids[found].tolist(), values[found].tolist(), strict=True))
    return run


def _texts(one: DevSet) -> list[str]:
    return [passage_input(document.title, document.text) for document in one.documents]


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
