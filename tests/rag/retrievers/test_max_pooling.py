"""Pooling in slices and blocks equals the formula over the whole block of logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.retrievers import max_pooling
from rag.retrievers.max_pooling import pool

POOLINGS = st.sampled_from(["max", "sum"])
ACTIVATIONS = st.sampled_from(["relu", "log1p_relu"])


def formula(hidden, embeddings, bias, pooling, activation):
    """One text, all its logits at once."""
    logits = hidden @ embeddings.t()
    weights = torch.log1p(torch.relu(logits if bias is None else logits + bias))
    if activation == "log1p_relu":
        weights = torch.log1p(weights)
    return weights.amax(0) if pooling == "max" else weights.sum(0)


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    seed=st.integers(0, 2**31 - 1),
    pooling=POOLINGS,
    activation=ACTIVATIONS,
    biased=st.booleans(),
    block=st.integers(1, 12),
    n_terms=st.integers(1, 200),
)
def test_slices_and_blocks_equal_the_formula(
    lengths, seed, pooling, activation, biased, block, n_terms
):
    hidden, embeddings = numbers(seed, sum(lengths), 8), numbers(seed + 1, n_terms, 8)
    bias = numbers(seed + 2, n_terms) if biased else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(max_pooling, "BLOCK_POSITIONS", block)
        patch.setattr(max_pooling, "SLICE_ELEMENTS", 64)
        found = pool(hidden, lengths, embeddings, bias, pooling=pooling, activation=activation)
    for text, own in zip(hidden.split(lengths), found, strict=True):
        expected = formula(text, embeddings, bias, pooling, activation)
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)


@given(st.permutations(range(7)), st.integers(0, 1000), ACTIVATIONS)
def test_the_order_of_positions_does_not_matter(order, seed, activation):
    hidden, embeddings = numbers(seed, 7, 8), numbers(seed + 1, 40, 8)
    shuffled = hidden[list(order)]
    first = pool(hidden, [7], embeddings, None, activation=activation)
    again = pool(shuffled, [7], embeddings, None, activation=activation)
    torch.testing.assert_close(first, again, atol=1e-6, rtol=1e-6)


def test_no_more_than_a_slice_exists_at_a_time(monkeypatch):
    made: list[int] = []
    real = torch.Tensor.new_empty

    def counted(tensor, size, *rest, **options):
        made.append(int(torch.Size([size] if isinstance(size, int) else size).numel()))
        return real(tensor, size, *rest, **options)

    monkeypatch.setattr(torch.Tensor, "new_empty", counted)
    n_terms, lengths = 5000, [300, 40, 40, 40]
    pool(numbers(1, sum(lengths), 8), lengths, numbers(2, n_terms, 8), None)
    assert max(made) <= max(max_pooling.SLICE_ELEMENTS, len(lengths) * n_terms)
    assert max(made) < sum(lengths) * n_terms / 7
