"""Documents → every retriever's representations of their passages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.document_store import StoredDocument
from indexes.held import Held
from indexes.passages import PassageConfig, passage_spans
from indexes.postings import concatenate
from indexes.representation import PassageVectors, take_rows
from rag.progress import Deferred
from rag.retrievers.one_pass import encode_together, sharing
from rag.retrievers.retriever import Retriever

MODEL_COST = 50.0
"""A model's passage takes far longer than an analysed one; the bar should know."""


def cut(stored: StoredDocument, passages: PassageConfig) -> StoredDocument:
    """The document with its passages' spans; a document with a title only is one empty passage."""
    spans = passage_spans(stored.document.text, passages) or [(0, 0)]
    return msgspec.structs.replace(stored, spans=spans)


def represent(
    documents: Sequence[StoredDocument],
    retrievers: Sequence[Retriever],
    bar: Deferred,
    held: Sequence[Held] = (),
) -> dict[str, PassageVectors]:
    """Every retriever's representation of every passage: the title, then the passage.

    What an index of `held` has of the same document by the same retriever is taken from there.
    Retrievers that begin with the same layers read together (`rag.retrievers.one_pass`).
    """
    n_passages = sum(len(stored.spans) for stored in documents)
    bar.expect(sum(_cost(retriever) * n_passages for retriever in retrievers))
    holders = {
        retriever.entry.name: next((one for one in held if one.holds(retriever.entry)), None)
        for retriever in retrievers
    }
    vectors: dict[str, PassageVectors] = {}
    for group in sharing([one for one in retrievers if holders[one.entry.name] is None]):
        told = {one.entry.name: partial(bar.work, cost=MODEL_COST) for one in group}
        vectors |= encode_together(group, _texts(documents), told)
    for retriever in retrievers:
        if retriever.entry.name in vectors:
            continue
        on_done = partial(bar.work, cost=_cost(retriever))
        holder = holders[retriever.entry.name]
        vectors[retriever.entry.name] = (
            retriever.encode_passages(_texts(documents), on_done)
            if holder is None
            else _completed(documents, retriever, holder, on_done)
        )
    return vectors


def _completed(
    documents: Sequence[StoredDocument],
    retriever: Retriever,
    holder: Held,
    on_done: Callable[[int], None],
) -> PassageVectors:
    """What the holder has, the rest encoded, in the documents' order."""
    places = [holder.place(stored) for stored in documents]
    fresh = [number for number, place in enumerate(places) if place is None]
    known = [number for number, place in enumerate(places) if place is not None]
    parts = []
    if fresh:
        texts = _texts([documents[number] for number in fresh])
        parts.append(retriever.encode_passages(texts, on_done))
    if known:
        found = [place for place in places if place is not None]
        parts.append(holder.vectors(retriever.entry.name, found))
        on_done(sum(place.n_rows for place in found))
    counts = np.array([len(stored.spans) for stored in documents])
    return _reordered(parts, [*fresh, *known], counts)


def _reordered(
    parts: Sequence[PassageVectors], order: Sequence[int], counts: NDArray[np.int64]
) -> PassageVectors:
    """The parts' rows, which belong to documents in this `order`, sorted by document.

    `counts[d]` is the number of passages of document d.
    """
    documents = np.repeat(order, counts[order])
    rows = np.argsort(documents, kind="stable")
    sparse = [part.sparse for part in parts if part.sparse is not None]
    dense = [part.dense for part in parts if part.dense is not None]
    return PassageVectors(
        sparse=take_rows(concatenate(sparse), rows) if sparse else None,
        dense=np.concatenate(dense)[rows] if dense else None,
    )


def _texts(documents: Sequence[StoredDocument]) -> list[str]:
    """What a retriever reads of each passage."""
    return [
        f"{stored.document.title} {stored.document.text[start:end]}".strip()
        for stored in documents
        for start, end in stored.spans
    ]


def _cost(retriever: Retriever) -> float:
    return MODEL_COST if retriever.entry.model else 1.0
