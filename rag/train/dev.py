"""What a run is measured on while it trains. Scoring is injected: the harness lives elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from indexes.document import Document
from rag.train.candidates import Candidates
from rag.train.pairs import Pairs

PICK = "nDCG@10"
"""The measure, a mean over the sets, that the best state is picked by."""


class DevSet(msgspec.Struct, frozen=True):
    """Documents, questions by id, and for each the relevance of judged documents by id."""

    name: str
    documents: list[Document]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


Measure = Callable[[Path, Sequence[DevSet]], dict[str, float]]
"""Scores of the model in a folder over sets held out from training; `PICK` must be one of them."""


def held_out_set(pairs: Pairs, candidates: Candidates, numbers: Sequence[int]) -> DevSet:
    """These questions over the documents that were mined for any of them: a hard small pool."""
    rows = sorted({int(row) for number in numbers for row in candidates.rows[number] if row >= 0})
    queries = [pairs.queries[number] for number in numbers]
    return DevSet(
        name=f"{pairs.source.name} held out",
        documents=[pairs.documents[row] for row in rows],
        queries={query.id: query.text for query in queries},
        qrels={
            query.id: {pairs.documents[row].id: 1 for row in query.positives} for query in queries
        },
    )
