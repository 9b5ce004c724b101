"""How well a passage can stand as evidence for a question: a number in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from indexes.representation import QueryVector
from indexes.snapshot import Snapshot
from rag.search import Hit


def evidence_strengths(
    snapshot: Snapshot, vectors: Mapping[str, QueryVector], rows: Sequence[int]
) -> list[float]:
    """Strength of each row's passage: the mean of lexical coverage and cosine, those at hand.

    Coverage is the share of the question's term weight (idf for BM25) that the passage holds; a
    term no passage holds counts with the weight of the rarest. Cosine is clipped at 0. Both are
    absolute, unlike a rank or a fused score: the best of bad passages stays weak.
    """
    parts: list[list[float]] = []
    for name, vector in vectors.items():
        if vector.sparse is not None:
            parts.append(snapshot.coverage(name, vector, rows))
        if vector.dense is not None:
            parts.append([max(0.0, cosine) for cosine in snapshot.dense_scores(name, vector, rows)])
    if not parts:
        return [0.0] * len(rows)
    return [sum(column) / len(parts) for column in zip(*parts, strict=True)]


def strong_enough(hits: Sequence[Hit], strengths: Sequence[float], threshold: float) -> list[Hit]:
    """The hits that are evidence."""
    return [hit for hit, strength in zip(hits, strengths, strict=True) if strength >= threshold]
