"""The postings engine against a plain product: exact, in two steps, filtered, cut into passages."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from indexes.document import Document
from indexes.document_store import with_hash
from indexes.kernels import best_documents, best_rows
from indexes.manifest import RetrieverEntry
from indexes.postings import Postings, write_levels, write_postings
from indexes.representation import PassageVectors, SparseRows, SparseVector, top_k
from indexes.segment import Segment, write_segment
from indexes.sparse_search import search_postings

ENTRY = RetrieverEntry(name="s", kind="splade", parts=["sparse"])


def rows_of(matrix: csr_matrix) -> SparseRows:
    return SparseRows(
        vocabulary=[f"t{n}" for n in range(matrix.shape[1])],
        indptr=matrix.indptr.astype(np.int64),
        term_ids=matrix.indices.astype(np.uint32),
        weights=matrix.data.astype(np.float32),
    )


def random_matrix(seed: int, n_rows: int, n_terms: int, per_row: int) -> csr_matrix:
    """Like SPLADE's: common terms have low weights, rare ones high weights."""
    random = np.random.default_rng(seed)
    popular = 1 / np.arange(1, n_terms + 1) ** 0.7
    popular /= popular.sum()
    columns = [
        np.sort(random.choice(n_terms, min(per_row, n_terms), replace=False, p=popular))
        for _ in range(n_rows)
    ]
    indptr = np.cumsum([0, *(len(c) for c in columns)])
    weights = random.gamma(2, 0.4, indptr[-1]).astype(np.float32) + np.float32(0.01)
    return csr_matrix((weights, np.concatenate(columns), indptr), shape=(n_rows, n_terms))


def segment_of(folder: Path, matrix: csr_matrix, passages_of: list[int]) -> Segment:
    documents = [
        with_hash(Document(f"d{n}", "word " * count), [(0, 1)] * count)
        for n, count in enumerate(passages_of)
    ]
    vectors = {"s": PassageVectors(sparse=rows_of(matrix))}
    entry = write_segment(folder / "segments" / "one", documents, vectors, [ENTRY])
    return Segment(folder, entry, [ENTRY])


def query_of(seed: int, n_terms: int, n_query: int) -> SparseVector:
    random = np.random.default_rng(seed)
    terms = random.choice(n_terms, min(n_query, n_terms), replace=False)
    weights = random.gamma(2, 0.5, len(terms)) + 0.01
    return SparseVector([f"t{t}" for t in terms] + ["unknown"], [*weights.tolist(), 1.0])


def product(matrix: csr_matrix, query: SparseVector) -> np.ndarray:
    """Scores by scipy; NaN where no term matched."""
    vector = np.zeros(matrix.shape[1])
    for term, weight in zip(query.terms, query.weights, strict=True):
        if term != "unknown":
            vector[int(term[1:])] = weight
    scores = matrix.astype(np.float64) @ vector
    scores[scores == 0] = np.nan
    return scores


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31 - 1),
    st.lists(st.integers(1, 3), min_size=1, max_size=40),
    st.integers(1, 30),
    st.integers(1, 45),
    st.booleans(),
    st.booleans(),
)
def test_exact_search_equals_the_product(seed, passages_of, n_query, limit, whole, filtered):
    if whole:
        passages_of = [1] * len(passages_of)
    matrix = random_matrix(seed, sum(passages_of), 40, 9)
    query = query_of(seed + 1, 40, n_query)
    random = np.random.default_rng(seed)
    allowed = random.random(sum(passages_of)) < 0.6 if filtered else None
    expected = product(matrix, query)
    if allowed is not None:
        expected[~allowed] = np.nan
    with tempfile.TemporaryDirectory() as scratch:
        segment = segment_of(Path(scratch), matrix, passages_of)
        for mode in ("exact", "two_step"):
            found = search_postings(segment, "s", query, limit, allowed, mode)
            best = np.fmax.reduceat(expected, segment.starts)
            wanted = top_k(best, limit)
            np.testing.assert_allclose(found.scores, best[wanted], rtol=1e-5)
            np.testing.assert_allclose(expected[found.rows], found.scores, rtol=1e-5)
            assert len(set(segment.ordinals[found.rows])) == len(found.rows)
        segment.close()


def test_rows_beyond_one_block_are_scored(tmp_path):
    matrix = random_matrix(3, 70_000, 50, 6)
    segment = segment_of(tmp_path, matrix, [1] * 70_000)
    query = query_of(4, 50, 12)
    expected = product(matrix, query)
    found = search_postings(segment, "s", query, 100, None, "exact")
    np.testing.assert_allclose(found.scores, expected[top_k(expected, 100)], rtol=1e-5)
    segment.close()


def test_two_steps_find_nearly_all_of_the_ten_best(tmp_path):
    matrix = random_matrix(11, 20_000, 3_000, 60)
    segment = segment_of(tmp_path, matrix, [1] * 20_000)
    shared = []
    for seed in range(40):
        query = query_of(100 + seed, 300, 30)
        exact = search_postings(segment, "s", query, 10, None, "exact")
        quick = search_postings(segment, "s", query, 10, None, "two_step")
        shared.append(len(set(exact.rows) & set(quick.rows)) / 10)
    assert np.mean(shared) >= 0.98
    segment.close()


def test_levels_are_half_a_step_from_the_weights(tmp_path):
    matrix = random_matrix(7, 500, 60, 20)
    write_postings(tmp_path, "s", rows_of(matrix))
    write_levels(tmp_path, "s")
    postings = Postings(tmp_path, "s")
    assert postings.levels is not None
    assert postings.scales is not None
    scales = np.repeat(postings.scales, np.diff(postings.indptr))
    assert postings.levels.min() >= 1
    error = np.abs(postings.levels * scales - postings.weights)
    assert (error <= np.maximum(scales / 2, scales - postings.weights) * (1 + 1e-5)).all()


@settings(deadline=None)  # the first example waits for the compiler
@given(
    st.lists(st.sampled_from([-2.0, -0.0, 0.0, 0.5, 0.5, 1.0]), min_size=1, max_size=40),
    st.integers(1, 45),
    st.randoms(use_true_random=False),
)
def test_the_best_are_those_of_a_sort(values, limit, random):
    scores = np.array(values)
    allowed = np.array([random.random() < 0.7 for _ in values])
    plain = np.where((scores == 0) & np.signbit(scores) | ~allowed, np.nan, scores)
    rows, _ = best_rows(scores, allowed, limit)
    assert sorted(rows) == sorted(top_k(plain, limit))
    cuts = sorted({0, *(n for n in range(len(values)) if random.random() < 0.4)})
    starts = np.array(cuts, dtype=np.int64)
    documents = np.fmax.reduceat(plain, starts)
    rows, best = best_documents(scores, allowed, starts, limit)
    found = sorted(np.searchsorted(starts, rows, side="right") - 1)
    assert found == sorted(top_k(documents, limit))
    assert sorted(best) == pytest.approx(sorted(documents[found]))
