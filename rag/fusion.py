"""Several rankings become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rag.search import Fusion, StageScore


class Ranked(msgspec.Struct, frozen=True):
    """One retriever's ranking, best first: document keys, passage rows and scores."""

    documents: Sequence[int]
    rows: Sequence[int]
    scores: Sequence[float]
    weight: float = 1.0


class Candidate(msgspec.Struct, frozen=True):
    """A fused document: its score, where each stage put it, and its best-placed passage's row."""

    document: int
    row: int
    score: float
    scores: dict[str, StageScore]


def fuse(rankings: Mapping[str, Ranked], fusion: Fusion, limit: int) -> list[Candidate]:
    """Fuse rankings by name; ties go to the lower document key.

    `rrf` (Cormack, Clarke and Büttcher 2009): Σ weight / (k + rank).
    `weighted`: Σ weight · (score − min) / (max − min) within each ranking, an absent document
    counts 0 and a ranking of equal scores counts 1.
    `from_zero`: Σ weight · score / max (Bruch, Gai and Ingber 2023, theoretical minimum 0): where
    documents were chosen by one retriever, its worst of them is no zero; without a score above
    zero a ranking counts nothing. A single ranking keeps its own scores.
    """
    gains: dict[int, float] = {}
    best: dict[int, tuple[float, int]] = {}
    stages: dict[int, dict[str, StageScore]] = {}
    alone = len(rankings) == 1
    for name, ranked in rankings.items():
        shares = list(ranked.scores) if alone else _shares(ranked, fusion)
        for place, share in enumerate(shares):
            document = ranked.documents[place]
            gain = share if alone else ranked.weight * share
            gains[document] = gains.get(document, 0.0) + gain
            if document not in best or gain > best[document][0]:
                best[document] = (gain, ranked.rows[place])
            stage = StageScore(rank=place + 1, score=float(ranked.scores[place]))
            stages.setdefault(document, {})[name] = stage
    order = sorted(gains, key=lambda document: (-gains[document], document))[:limit]
    return [Candidate(key, best[key][1], gains[key], stages[key]) for key in order]


def _shares(ranked: Ranked, fusion: Fusion) -> list[float]:
    if fusion.method == "rrf":
        return [1 / (fusion.k + place) for place in range(1, len(ranked.scores) + 1)]
    if not ranked.scores:
        return []
    low, high = min(ranked.scores), max(ranked.scores)
    if fusion.method == "from_zero":
        return [score / high if high > 0 else 0.0 for score in ranked.scores]
    if high == low:
        return [1.0] * len(ranked.scores)
    return [(score - low) / (high - low) for score in ranked.scores]
