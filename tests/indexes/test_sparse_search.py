"""The postings engine against a plain product: exact, in two steps, filtered, cut into passages."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from indexes import sparse_search
from indexes.document import Document
from indexes.document_store import with_hash
from indexes.forward import Forward, write_forward
from indexes.full_scores import score_rows
from indexes.kernels import best_documents, best_rows
from indexes.layer_search import depths_within, search_layers
from indexes.layers import LAYERS, N_LAYERS, Layers, write_layers
from indexes.manifest import RetrieverEntry, SegmentEntry
from indexes.postings import Postings, write_postings
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
    columns = random.choice(n_terms, (n_rows, per_row), p=popular)
    rows = np.repeat(np.arange(n_rows), per_row)
    matrix = csr_matrix((np.ones(columns.size), (rows, columns.ravel())), shape=(n_rows, n_terms))
    matrix.sum_duplicates()
    matrix.data = (random.gamma(2, 0.4, matrix.nnz) + 0.01).astype(np.float32)
    return matrix


def segment_of(folder: Path, matrix: csr_matrix, passages_of: list[int]) -> Segment:
    documents = [
        with_hash(Document(f"d{n}", "word " * count), [(0, 1)] * count)
        for n, count in enumerate(passages_of)
    ]
    vectors = {"s": PassageVectors(sparse=rows_of(matrix))}
    entry = write_segment(folder / "segments" / "one", documents, vectors, [ENTRY])
    return Segment(folder, entry, [ENTRY])


@pytest.fixture(scope="module")
def two_blocks(tmp_path_factory):
    """More rows than one block has."""
    matrix = random_matrix(3, 70_000, 50, 8)
    segment = segment_of(tmp_path_factory.mktemp("two_blocks"), matrix, [1] * 70_000)
    yield matrix, segment
    segment.close()


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


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**31 - 1),
    st.lists(st.integers(1, 3), min_size=1, max_size=40),
    st.integers(1, 30),
    st.integers(1, 45),
    st.booleans(),
    st.booleans(),
)
@example(46, [2, 1, 2, 3], 25, 4, False, False)  # in two steps fewer rows are met than wanted
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
        for mode in ("exact", "two_step", "auto"):
            found = search_postings(segment, "s", [query], limit, allowed, mode)[0]
            best = np.fmax.reduceat(expected, segment.starts)
            wanted = top_k(best, limit)
            np.testing.assert_allclose(found.scores, best[wanted], rtol=1e-5)
            np.testing.assert_allclose(expected[found.rows], found.scores, rtol=1e-5)
            assert len(set(segment.ordinals[found.rows])) == len(found.rows)
        segment.close()


@pytest.mark.parametrize("share", [1.0, 0.6, 0.2])
def test_rows_beyond_one_block_are_scored(two_blocks, monkeypatch, share):
    """Whatever share of the postings the first pass reads."""
    monkeypatch.setitem(sparse_search.PASSES, "pruned", sparse_search.FirstPass(2, 24, share=share))
    matrix, segment = two_blocks
    for seed in range(4, 10):
        query = query_of(seed, 50, 12)
        expected = product(matrix, query)
        found = search_postings(segment, "s", [query], 100, None, "exact")[0]
        np.testing.assert_allclose(found.scores, expected[top_k(expected, 100)], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "one_each"), [("two_step", True), ("u8", True), ("u8", False)])
def test_quick_modes_find_nearly_all_of_the_ten_best(tmp_path, mode, one_each):
    matrix = random_matrix(11, 20_000, 3_000, 60)
    segment = segment_of(tmp_path, matrix, [1] * 20_000 if one_each else [2] * 10_000)
    shared = []
    for seed in range(40):
        query = query_of(100 + seed, 300, 30)
        exact = search_postings(segment, "s", [query], 10, None, "exact")[0]
        quick = search_postings(segment, "s", [query], 10, None, mode)[0]
        assert len(quick.rows) == 10
        shared.append(len(set(exact.rows) & set(quick.rows)) / 10)
    assert np.mean(shared) >= 0.98
    segment.close()


def test_a_first_pass_reads_no_more_than_its_budget(tmp_path, monkeypatch):
    """With next to no budget the one heaviest layer decides what is scored, and that in full."""
    monkeypatch.setitem(sparse_search.PASSES, "two_step", sparse_search.FirstPass(1, 0, 0.0))
    matrix = random_matrix(5, 3000, 50, 12)
    segment = segment_of(tmp_path, matrix, [1] * 3000)
    query = query_of(6, 50, 12)
    found = search_postings(segment, "s", [query], 5, None, "two_step")[0]
    expected = product(matrix, query)
    np.testing.assert_allclose(found.scores, expected[found.rows], rtol=1e-6)
    assert found.scores[-1] < expected[top_k(expected, 5)[-1]]
    segment.close()


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 3), st.floats(0, 12), st.integers(1, 20))
def test_no_other_document_reaches_the_bound(seed, per_document, budget, limit):
    """Whatever a pass reads: where the last of the best is above the bound, they are the best."""
    matrix = random_matrix(seed, 120 * per_document, 40, 9)
    query = query_of(seed + 1, 40, 12)
    expected = product(matrix, query)
    with tempfile.TemporaryDirectory() as scratch:
        segment = segment_of(Path(scratch), matrix, [per_document] * 120)
        terms = sparse_search._known_terms(segment.postings["s"], query)
        forward = segment.forward["s"]
        n_found, rows, scores, bounds = search_layers(
            np.array([len(terms.numbers)]),
            terms.numbers,
            terms.weights,
            segment.layers["s"].arrays,
            forward.arrays,
            segment.ordinals if per_document > 1 else np.zeros(0, np.uint32),
            segment.n_passages,
            np.zeros(0, np.bool_),
            limit,
            limit + 3,
            budget * segment.n_passages,
            1.0,
            True,
            forward.slots(len(terms.numbers)),
        )
        segment.close()
    found = rows[0, : n_found[0]]
    np.testing.assert_allclose(scores[0, : n_found[0]], expected[found], rtol=1e-6)
    best = np.fmax.reduceat(expected, segment.starts)
    others = np.delete(best, segment.ordinals[found])
    reached = np.nanmax(others, initial=-np.inf)
    if len(found) and scores[0, n_found[0] - 1] > bounds[0]:
        assert reached <= scores[0, n_found[0] - 1]
    if n_found[0] < limit and bounds[0] == -np.inf:
        assert np.isnan(others).all()


def test_several_queries_at_once_are_as_one_by_one(two_blocks):
    _, segment = two_blocks
    queries = [query_of(seed, 50, n) for seed, n in enumerate((1, 9, 0, 30))]
    allowed = np.random.default_rng(1).random(70_000) < 0.3
    for mode in ("exact", "two_step", "u8"):
        together = search_postings(segment, "s", queries, 7, allowed, mode)
        for query, found in zip(queries, together, strict=True):
            alone = search_postings(segment, "s", [query], 7, allowed, mode)[0]
            assert found.rows.tolist() == alone.rows.tolist()
            assert found.scores.tolist() == alone.scores.tolist()
            assert allowed[found.rows].all()


@pytest.mark.parametrize("per_document", [1, 2])
def test_what_levels_cannot_tell_apart_is_scored_in_full(tmp_path, per_document):
    """One term, thousands of weights in a single level: the best are still the best."""
    weights = 1 + np.random.default_rng(2).permutation(4000) * 1e-7
    matrix = csr_matrix(weights.astype(np.float64)[:, None].astype(np.float32))
    segment = segment_of(tmp_path, matrix, [per_document] * (4000 // per_document))
    query = SparseVector(["t0"], [2.0])
    expected = product(matrix, query)
    found = search_postings(segment, "s", [query], 6, None, "exact")[0]
    best = np.fmax.reduceat(expected, segment.starts)
    np.testing.assert_allclose(found.scores, best[top_k(best, 6)], rtol=0)
    segment.close()


def test_negative_query_weights_and_sums_of_nothing(tmp_path):
    matrix = csr_matrix(np.array([[1, 1, 0], [2, 1, 0], [0, 1, 0], [0, 0, 1]], np.float32))
    segment = segment_of(tmp_path, matrix, [1] * 4)
    query = SparseVector(["t0", "t1"], [1.0, -1.0])
    for mode in ("exact", "two_step", "u8"):
        found = search_postings(segment, "s", [query], 4, None, mode)[0]
        assert found.rows.tolist() == [1, 0, 2]  # row 0 sums to 0 and matches; row 3 does not
        assert found.scores.tolist() == [1.0, 0.0, -1.0]
    segment.close()


def test_a_segment_without_layers_is_searched_in_full(tmp_path):
    matrix = random_matrix(8, 300, 40, 9)
    segment_of(tmp_path, matrix, [1] * 300).close()
    for file in (tmp_path / "segments" / "one").glob("s.layer_*"):
        file.unlink()
    entry = SegmentEntry("one", 300, 300, "0", {})
    segment = Segment(tmp_path, entry, [ENTRY])
    query = query_of(9, 40, 12)
    expected = product(matrix, query)
    found = search_postings(segment, "s", [query], 10, None)[0]
    np.testing.assert_allclose(found.scores, expected[top_k(expected, 10)], rtol=1e-6)
    segment.close()


@settings(deadline=None)
@given(
    st.integers(0, 2**31 - 1),
    st.integers(1, 12),
    st.integers(0, 400),
    st.sampled_from([0.3, 0.7, 1.0]),
)
def test_layers_are_taken_by_what_they_are_worth_within_the_budget(seed, n_terms, budget, share):
    random = np.random.default_rng(seed)
    counts = random.integers(0, 40, (20, N_LAYERS))
    scales = random.random(20).astype(np.float32)
    numbers = random.choice(20, n_terms, replace=False)
    weights = random.normal(size=n_terms)
    depths = depths_within(numbers, weights, scales, counts, budget, share)
    worth = {}
    for place, (number, weight) in enumerate(zip(numbers, weights, strict=True)):
        least = np.inf
        for layer, (top, below) in enumerate(zip(LAYERS, [*LAYERS[1:], 0], strict=True)):
            ended = abs(weight) * float(scales[number]) * (top - below)
            least = min(least, ended / max(int(counts[number, layer]), 1))
            worth[place, layer] = least
    budget = min(budget, share * counts[numbers].sum())
    expected, spent = [0] * n_terms, 0
    for place, layer in sorted(worth, key=lambda unit: (-worth[unit], unit)):
        count = int(counts[numbers[place], layer])
        if spent and spent + count > budget:
            break
        expected[place] += 1
        spent += count
    assert depths.tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 60), st.integers(1, 30), st.integers(0, 30))
def test_impacts_by_passage_are_the_rows(seed, n_rows, n_terms, n_query):
    matrix = random_matrix(seed, n_rows, n_terms, 7)
    query = query_of(seed + 1, n_terms, n_query)
    random = np.random.default_rng(seed)
    rows = np.flatnonzero(random.random(n_rows) < 0.5)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_postings(folder, "s", rows_of(matrix))
        write_forward(folder, "s", n_rows)
        postings = Postings(folder, "s")
        forward = Forward(folder, "s", postings.n_terms)
        numbers = postings.numbers(query.terms)
        known = numbers >= 0
        weights = np.array(query.weights)[known]
        slots = forward.slots(len(weights))
        scores = score_rows(numbers[known], weights, forward.arrays, rows, slots)
        assert not slots.any()
    scores[(scores == 0) & np.signbit(scores)] = np.nan
    np.testing.assert_allclose(scores, product(matrix, query)[rows], rtol=1e-6)


def test_levels_are_half_a_step_from_the_weights_and_cells_hold_their_own(tmp_path):
    matrix = random_matrix(7, 500, 60, 20)
    write_postings(tmp_path, "s", rows_of(matrix))
    write_layers(tmp_path, "s", 500)
    postings, layers = Postings(tmp_path, "s"), Layers(tmp_path, "s")
    for term in range(postings.n_terms):
        stretch = slice(postings.indptr[term], postings.indptr[term + 1])
        weights = dict(zip(postings.rows[stretch], postings.weights[stretch], strict=True))
        scale = layers.scales[term]
        for layer in range(N_LAYERS):
            at = term * N_LAYERS + layer
            cell = slice(layers.starts[at], layers.starts[at + 1])
            assert layers.counts[term, layer] == cell.stop - cell.start
            least = LAYERS[layer + 1] + 1 if layer + 1 < N_LAYERS else 1
            levels = layers.levels[cell]
            assert all((levels >= least) & (levels <= LAYERS[layer]))
            assert (np.diff(layers.rows[cell].astype(int)) > 0).all()
            for row, level in zip(layers.rows[cell], levels, strict=True):
                weight = weights.pop(row)
                bound = scale / 2 if level > 1 else scale
                assert abs(weight - level * scale) <= bound * (1 + 1e-5)
        assert not weights


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
