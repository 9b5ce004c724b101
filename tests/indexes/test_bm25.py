"""Scores are rank-bm25's, whatever the segments, the deletions and the order of commits."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from library import ANALYZER, BM25, build, upsert
from rank_bm25 import BM25Okapi

from indexes.analyzer import Analyzer
from indexes.document import Document
from indexes.passages import PassageConfig
from indexes.representation import QueryVector, SparseVector
from indexes.snapshot import Snapshot
from indexes.writer import IndexWriter

WHOLE = PassageConfig(max_words=0)
WORDS = ["cat", "dog", "fish", "bird", "tree", "river", "stone", "cloud"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


def query_of(text: str) -> QueryVector:
    counts = Counter(Analyzer(ANALYZER).terms(text))
    return QueryVector(sparse=SparseVector(list(counts), [float(n) for n in counts.values()]))


def scores_by_id(snapshot: Snapshot, text: str) -> dict[str, float]:
    found = snapshot.search("bm25", query_of(text), 1000, snapshot.allowed(None))
    passages = snapshot.fetch(found.rows.tolist())
    return {p.document_id: s for p, s in zip(passages, found.scores, strict=True)}


def oracle(corpus: dict[str, str], text: str) -> dict[str, float]:
    analyzer = Analyzer(ANALYZER)
    model = BM25Okapi([analyzer.terms(t) for t in corpus.values()], k1=0.9, b=0.4)
    scores = model.get_scores(analyzer.terms(text))
    wanted = set(analyzer.terms(text))
    return {
        key: score
        for (key, held), score in zip(corpus.items(), scores, strict=True)
        if wanted & set(analyzer.terms(held))
    }


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.lists(texts, min_size=1, max_size=9),
    st.lists(st.tuples(st.integers(0, 12), texts), max_size=4),
    st.lists(st.integers(0, 8), max_size=3, unique=True),
    texts,
)
def test_scores_equal_rank_bm25_after_any_changes(first, changes, deletions, query):
    corpus = {f"d{n}": text for n, text in enumerate(first)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "index"
        build(folder, [Document(k, t) for k, t in corpus.items()], [BM25], WHOLE)
        for number, text in changes:
            corpus.pop(f"d{number}", None)
            corpus[f"d{number}"] = text
            upsert(folder, [Document(f"d{number}", text)])
        doomed = [f"d{n}" for n in deletions if f"d{n}" in corpus]
        if doomed and len(doomed) < len(corpus):
            with IndexWriter(folder) as writer:
                writer.delete(doomed)
            for key in doomed:
                del corpus[key]
        for compacted in (False, True):
            if compacted:
                with IndexWriter(folder) as writer:
                    writer.compact()
            snapshot = Snapshot(folder)
            found, expected = scores_by_id(snapshot, query), oracle(corpus, query)
            snapshot.close()
            assert found.keys() == expected.keys()
            for key, score in expected.items():
                assert found[key] == pytest.approx(score, rel=1e-6, abs=1e-6)


def test_a_common_term_gets_the_floor_of_the_mean_idf(tmp_path):
    corpus = {"a": "cat dog", "b": "cat fish", "c": "cat bird", "d": "tree"}
    build(tmp_path / "i", [Document(k, t) for k, t in corpus.items()], [BM25], WHOLE)
    snapshot = Snapshot(tmp_path / "i")
    assert scores_by_id(snapshot, "cat") == pytest.approx(oracle(corpus, "cat"), abs=1e-6)
    assert min(scores_by_id(snapshot, "cat").values()) > 0


def test_impacts_of_a_fresh_build_are_read_not_recomputed(tmp_path):
    build(tmp_path / "i", [Document(str(n), w) for n, w in enumerate(WORDS)], [BM25], WHOLE)
    snapshot = Snapshot(tmp_path / "i")
    postings = snapshot.segments[0].postings["bm25"]
    assert postings.impacts is not None
    stretch = postings.find("cat")
    used = snapshot._statistics["bm25"].impacts(0, stretch)
    assert np.shares_memory(used, postings.impacts)


def test_matched_terms_add_up_to_the_score(tmp_path):
    docs = [Document("a", "cat dog cat"), Document("b", "dog fish"), Document("c", "stone")]
    build(tmp_path / "i", docs, [BM25], WHOLE)
    snapshot = Snapshot(tmp_path / "i")
    query = query_of("cat cat dog river")
    found = snapshot.search("bm25", query, 10, snapshot.allowed(None))
    for terms, score in zip(
        snapshot.matched("bm25", query, found.rows.tolist()), found.scores, strict=True
    ):
        assert sum(weight * held for _, weight, held in terms) == pytest.approx(score)
        assert "river" not in {term for term, _, _ in terms}
