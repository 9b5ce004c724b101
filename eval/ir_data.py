"""Read a data set by its ir_datasets id (MacAvaney et al. 2021), such as `beir/scifact/test`.

The `ir_datasets` package is optional: it downloads the data when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

from eval.dataset import Dataset, Query, drops_self, judged_queries
from eval.qrels import Qrels
from indexes.document import Document
from indexes.errors import DownloadFailed, InvalidInput, NotFound, Unsupported


def read_ir_dataset(dataset_id: str) -> Dataset:
    """Queries and judgements of `dataset_id`; the corpus is streamed from the package's store.

    Raises `Unsupported` without the package, `NotFound` for an unknown id, `InvalidInput` for a
    set without documents, queries or judgements, `DownloadFailed` when the data cannot be had.
    """
    handle = _load(dataset_id)
    lacking = [part for part in ("docs", "queries", "qrels") if not handle.has(part)]
    if lacking:
        raise InvalidInput(f"the data set {dataset_id!r} has no {' and no '.join(lacking)}")
    try:
        queries = {q.query_id: Query(q.query_id, _query_text(q)) for q in handle.queries_iter()}
        qrels: Qrels = {}
        for judgement in handle.qrels_iter():
            judged = qrels.setdefault(judgement.query_id, {})
            judged[judgement.doc_id] = int(judgement.relevance)
    except (OSError, RuntimeError) as error:
        raise DownloadFailed(f"the data of {dataset_id!r} cannot be had: {error}") from error
    name, _, split = dataset_id.rpartition("/")
    return Dataset(
        name=name or dataset_id,
        split=split,
        queries=judged_queries(queries, qrels, dataset_id),
        qrels=qrels,
        documents=partial(_documents, handle),
        drop_self=drops_self(dataset_id),
    )


def _load(dataset_id: str) -> Any:
    try:
        package: Any = import_module("ir_datasets")
    except ImportError as error:
        raise Unsupported(
            f"{dataset_id!r} is no folder, and data set ids need the package ir_datasets: "
            "pip install ir_datasets"
        ) from error
    try:
        return package.load(dataset_id)
    except KeyError as error:
        raise NotFound(f"{dataset_id!r} is neither a folder nor an ir_datasets id") from error


def _documents(handle: Any) -> Iterator[Document]:
    """The corpus, one `Document` a record: the title where there is one, then the text."""
    try:
        for record in handle.docs_iter():
            title = getattr(record, "title", "") or ""
            text = getattr(record, "text", None)
            yield Document(record.doc_id, record.default_text() if text is None else text, title)
    except (OSError, RuntimeError) as error:
        raise DownloadFailed(f"the corpus cannot be had: {error}") from error


def _query_text(query: Any) -> str:
    text = getattr(query, "text", None)
    return str(query.default_text() if text is None else text)
