"""A retrieval data set: queries, judgements, and a corpus that is streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from eval.qrels import Qrels
from indexes.document import Document
from indexes.errors import InvalidInput

_MAX_NAMED = 5


class Query(msgspec.Struct, frozen=True):
    """One query; `answers` are the accepted answers where the data set has them."""

    id: str
    text: str
    answers: tuple[str, ...] = ()


class Dataset(msgspec.Struct, frozen=True):
    """Queries and judgements of one split; `queries` are exactly those that are judged.

    `documents()` streams the corpus anew at each call. `drop_self` says that the data set's own
    protocol removes the query's document from its ranking (ArguAna and Quora, where the queries are
    themselves documents of the corpus). `folder` is the corpus' own place, where it has one that
    an index can be built from.
    """

    name: str
    split: str
    queries: dict[str, Query]
    qrels: Qrels
    documents: Callable[[], Iterator[Document]]
    drop_self: bool = False
    folder: Path | None = None


def judged_queries(queries: dict[str, Query], qrels: Qrels, origin: str) -> dict[str, Query]:
    """The queries that have judgements, in the order of `queries`.

    Raises `InvalidInput` when a judgement names a query that does not exist.
    """
    unknown = [query_id for query_id in qrels if query_id not in queries]
    if unknown:
        raise InvalidInput(f"{origin}: the judgements name unknown queries: {name_some(unknown)}")
    return {query_id: query for query_id, query in queries.items() if query_id in qrels}


def check_judged_documents(qrels: Qrels, known: set[str], origin: str) -> None:
    """Raise `InvalidInput` when a judgement names a document that the corpus does not have."""
    unknown = sorted({doc for judged in qrels.values() for doc in judged} - known)
    if unknown:
        raise InvalidInput(f"{origin}: the judgements name unknown documents: {name_some(unknown)}")


def name_some(ids: list[str]) -> str:
    """The first few ids in quotes, and how many more there are."""
    shown = ", ".join(repr(one) for one in ids[:_MAX_NAMED])
    return shown if len(ids) <= _MAX_NAMED else f"{shown} and {len(ids) - _MAX_NAMED} more"


def drops_self(name: str) -> bool:
    """Whether the data set of that name drops the query's own document (BEIR's ArguAna, Quora)."""
    return any(part in name.lower() for part in ("arguana", "quora"))
