"""A retriever with both parts is searched as one: equal to adding up all products by hand."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from library import BOTH, build, stored, term_rows, texts_of, toy_vector, upsert

from indexes.document import Document
from indexes.filters import Condition, Filter
from indexes.representation import QueryVector, SparseVector
from indexes.snapshot import Snapshot
from indexes.writer import IndexWriter

WORDS = ["cat", "dog", "fish", "bird", "tree", "river", "stone", "cloud"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)
queries = st.dictionaries(st.sampled_from([*WORDS, "unheard"]), st.floats(0.1, 3), max_size=5)


def brute_force(
    corpus: list[Document], sparse: dict[str, float], name: str
) -> list[tuple[str, float]]:
    """Every document by its best passage, over dictionaries and single products."""
    ranked = []
    for one in stored(corpus):
        passages = texts_of([one])
        rows = term_rows(passages)
        scores = []
        for number, text in enumerate(passages):
            entries = range(rows.indptr[number], rows.indptr[number + 1])
            held = {rows.vocabulary[rows.term_ids[n]]: float(rows.weights[n]) for n in entries}
            lexical = sum(weight * held.get(term, 0.0) for term, weight in sparse.items())
            scores.append(lexical + float(toy_vector(text) @ toy_vector(name)))
        ranked.append((one.document.id, max(scores)))
    return sorted(ranked, key=lambda pair: -pair[1])


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.lists(texts, min_size=1, max_size=9),
    queries,
    st.integers(1, 6),
    st.sampled_from([None, 0, 1]),
    st.sets(st.integers(0, 8)),
    texts,
)
def test_the_duplex_search_is_brute_force(bodies, sparse, limit, parity, deleted, late):
    corpus = {
        f"d{n}": Document(f"d{n}", body, "", {"parity": n % 2}) for n, body in enumerate(bodies)
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "i"
        build(folder, list(corpus.values()), [BOTH])
        corpus["late"] = Document("late", late, "", {"parity": 1})
        upsert(folder, [corpus["late"]])
        gone = [f"d{n}" for n in deleted if f"d{n}" in corpus]
        with IndexWriter(folder) as writer:
            writer.delete(gone)
        left = [d for key, d in corpus.items() if key not in gone]
        if parity is not None:
            left = [d for d in left if d.metadata["parity"] == parity]
        chosen = None if parity is None else Filter(must=[Condition("parity", match=parity)])
        snapshot = Snapshot(folder)
        try:
            query = QueryVector(
                SparseVector(list(sparse), list(sparse.values())), toy_vector("the query")
            )
            found = snapshot.search("duplex", query, limit, snapshot.allowed(chosen))
            ids = [p.document_id for p in snapshot.fetch(found.rows.tolist())]
        finally:
            snapshot.close()
    expected = brute_force(left, sparse, "the query")[:limit]
    assert found.scores == pytest.approx([score for _, score in expected], abs=1e-5)
    by_id = dict(expected)
    # Equal scores may stand in either order.
    assert [by_id.get(key, -1) for key in ids] == pytest.approx(found.scores.tolist(), abs=1e-5)
