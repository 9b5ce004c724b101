"""Fusion against the formulas written out the slow way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.fusion import Ranked, fuse
from rag.search import Fusion

scores = st.lists(st.floats(-5, 50, allow_nan=False), max_size=8, unique=True).map(
    lambda values: sorted(values, reverse=True)
)


@st.composite
def rankings(draw):
    names = draw(st.lists(st.sampled_from("abc"), min_size=2, max_size=3, unique=True))
    made = {}
    for name in names:
        values = draw(scores)
        documents = draw(st.permutations(range(10)))[: len(values)]
        rows = [document * 3 for document in documents]
        made[name] = Ranked(documents, rows, values, draw(st.sampled_from([0.5, 1.0, 2.0])))
    return made


def twin(rankings, fusion):
    totals = {}
    for ranked in rankings.values():
        for place, document in enumerate(ranked.documents):
            if fusion.method == "rrf":
                share = 1 / (fusion.k + place + 1)
            elif fusion.method == "from_zero":
                best = max(ranked.scores)
                share = ranked.scores[place] / best if best > 0 else 0.0
            else:
                spread = max(ranked.scores) - min(ranked.scores)
                share = (ranked.scores[place] - min(ranked.scores)) / spread if spread else 1.0
            totals[document] = totals.get(document, 0) + ranked.weight * share
    return totals


@given(rankings(), st.sampled_from(["rrf", "weighted", "from_zero"]), st.integers(1, 12))
def test_fusion_equals_its_formula(rankings, method, limit):
    fusion = Fusion(method=method, k=60)
    fused = fuse(rankings, fusion, limit)
    expected = twin(rankings, fusion)
    assert len(fused) == min(limit, len(expected))
    for candidate in fused:
        assert candidate.score == pytest.approx(expected[candidate.document])
        assert candidate.row == candidate.document * 3
        assert {n for n, r in rankings.items() if candidate.document in r.documents} == set(
            candidate.scores
        )
    order = [(-candidate.score, candidate.document) for candidate in fused]
    assert order == sorted(order)
    left = set(expected) - {candidate.document for candidate in fused}
    assert all(expected[document] <= fused[-1].score + 1e-12 for document in left)


def test_a_single_ranking_keeps_its_own_scores():
    fused = fuse({"a": Ranked([4, 2], [8, 5], [7.5, 1.5], 2.0)}, Fusion(), 10)
    assert [(c.document, c.row, c.score) for c in fused] == [(4, 8, 7.5), (2, 5, 1.5)]


def test_a_document_is_shown_by_its_best_placed_passage():
    rankings = {
        "a": Ranked([1, 2], [10, 20], [9.0, 1.0]),
        "b": Ranked([2, 1], [21, 11], [9.0, 1.0]),
    }
    rows = {c.document: c.row for c in fuse(rankings, Fusion(), 10)}
    assert rows == {1: 10, 2: 21}
