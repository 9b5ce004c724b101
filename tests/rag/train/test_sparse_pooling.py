"""Pooling with gradients against SPLADE as the paper writes it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.retrievers.max_pooling import pool
from rag.retrievers.worker_threads import WorkerThreads
from rag.train import sparse_pooling
from rag.train.sparse_pooling import sparse_pool


def slow(hidden, lengths, embeddings, bias):
    """max over positions of log(1 + relu(logits)), the whole block at once."""
    rows = []
    for states in hidden.split(lengths):
        logits = states @ embeddings.t()
        rows.append(torch.log1p(torch.relu(logits if bias is None else logits + bias)).amax(0))
    return torch.stack(rows)


@pytest.mark.slow
@pytest.mark.parametrize("dense", [0.0, 1.0], ids=["all terms", "picked terms"])
@pytest.mark.parametrize("biased", [True, False])
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_values_and_gradients_are_those_of_the_paper(dense, biased, lengths, seed):
    generator = torch.Generator().manual_seed(seed)

    def given_():
        generator.manual_seed(seed)
        sizes = [(sum(lengths), 4), (40, 4), (40,)]
        made = [torch.randn(size, generator=generator, requires_grad=True) for size in sizes]
        return made if biased else [*made[:2], None]

    ours, theirs = given_(), given_()
    weights = torch.randn((len(lengths), 40), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_pooling, "DENSE", dense)
        found = sparse_pool(ours[0], lengths, ours[1], ours[2], WorkerThreads(2))
    expected = slow(theirs[0], lengths, theirs[1], theirs[2])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        if one is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_it_is_what_the_retriever_computes():
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn((12, 8), generator=generator)
    embeddings, bias = torch.randn((300, 8), generator=generator), torch.full((300,), -2.0)
    found = sparse_pool(hidden, [5, 7], embeddings, bias, WorkerThreads(1))
    torch.testing.assert_close(found, pool(hidden, [5, 7], embeddings, bias))
    assert (found == 0).any()


def test_a_text_without_terms_has_no_gradient_and_no_weights():
    hidden = torch.zeros((3, 4), requires_grad=True)
    embeddings = torch.ones((6, 4), requires_grad=True)
    found = sparse_pool(hidden, [1, 2], embeddings, torch.full((6,), -1.0), WorkerThreads(1))
    assert found.shape == (2, 6)
    assert not found.any()
    found.sum().backward()
    assert hidden.grad is None or not hidden.grad.any()
