"""Pooling in two passes equals pooling in one, and the first pass leaves nothing out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.models.processor import multiplies_bytes
from rag.retrievers import screened_pooling
from rag.retrievers.max_pooling import pool
from rag.retrievers.screened_pooling import ScreenedHead, coarse_table, pool_screened

pytestmark = pytest.mark.skipif(
    not multiplies_bytes(), reason="this processor has no products of bytes: the screen is not used"
)

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=8)
SEEDS = st.integers(0, 2**31 - 1)


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=100, deadline=None)
@given(
    lengths=LENGTHS,
    seed=SEEDS,
    activation=st.sampled_from(["relu", "log1p_relu"]),
    shift=st.floats(-8, 3),
    biased=st.booleans(),
    width=st.integers(2, 70),
    n_terms=st.integers(1, 300),
    outlier=st.sampled_from([1.0, 30.0, 1000.0]),
)
def test_two_passes_equal_one(lengths, seed, activation, shift, biased, width, n_terms, outlier):
    hidden, embeddings = numbers(seed, sum(lengths), width), numbers(seed + 1, n_terms, width)
    hidden[:, 0] *= outlier
    bias = shift + numbers(seed + 2, n_terms) if biased else None
    table = coarse_table(embeddings)
    found = pool_screened(hidden, lengths, embeddings, bias, table, activation=activation)
    expected = pool(hidden, lengths, embeddings, bias, activation=activation)
    torch.testing.assert_close(found, expected, atol=1e-5 * outlier, rtol=1e-5)


@settings(max_examples=100, deadline=None)
@given(LENGTHS, SEEDS, st.integers(2, 70), st.floats(-1e-3, 1e-3))
def test_terms_that_are_barely_above_zero_are_kept(lengths, seed, width, margin):
    """Every bias puts its term's exact maximum within a hair of zero, on either side."""
    hidden, embeddings = numbers(seed, sum(lengths), width), numbers(seed + 1, 50, width)
    exact = torch.stack(
        [(text.double() @ embeddings.double().t()).amax(0) for text in hidden.split(lengths)]
    )
    bias = (margin - exact.amax(0)).float()
    found = pool_screened(hidden, lengths, embeddings, bias, coarse_table(embeddings))
    expected = torch.log1p(torch.relu(exact + bias)).float()
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_few_terms_are_multiplied_twice():
    hidden, embeddings = numbers(1, 60, 128), numbers(2, 20_000, 128)
    bias = torch.full((20_000,), -40.0)
    table = coarse_table(embeddings)
    kept = screened_pooling._reachable(hidden.split([30, 30]), [30, 30], bias, table)
    true = pool(hidden, [30, 30], embeddings, bias) > 0
    assert (kept >= true).all()
    assert 0 < true.sum() < kept.sum() < 0.1 * kept.numel()


def test_nothing_and_no_number():
    hidden, embeddings = numbers(1, 6, 8), numbers(2, 40, 8)
    hidden[:3] = 0
    embeddings[7] = 0
    plain = pool(hidden, [3, 3], embeddings, None)
    table = coarse_table(embeddings)
    torch.testing.assert_close(pool_screened(hidden, [3, 3], embeddings, None, table), plain)
    hidden[4, 2] = float("nan")
    assert pool_screened(hidden, [3, 3], embeddings, None, table)[1].isnan().all()


def test_a_changed_projection_is_read_again():
    hidden, embeddings = numbers(1, 6, 8), numbers(2, 40, 8)
    head = ScreenedHead()
    head.pool(hidden, [6], embeddings, None)
    embeddings.neg_()
    expected = pool(hidden, [6], embeddings, None)
    torch.testing.assert_close(head.pool(hidden, [6], embeddings, None), expected)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_other_kinds_of_numbers_are_multiplied_once(kind):
    hidden, embeddings = numbers(1, 6, 8).to(kind), numbers(2, 40, 8).to(kind)
    found = ScreenedHead().pool(hidden, [6], embeddings, None)
    assert torch.equal(found, pool(hidden, [6], embeddings, None))


def test_processors_without_products_of_bytes_multiply_once(monkeypatch):
    monkeypatch.setattr(screened_pooling, "multiplies_bytes", lambda: False)
    monkeypatch.setattr(screened_pooling, "coarse_table", None)
    hidden, embeddings = numbers(1, 6, 8), numbers(2, 40, 8)
    found = ScreenedHead().pool(hidden, [6], embeddings, None)
    assert torch.equal(found, pool(hidden, [6], embeddings, None))
