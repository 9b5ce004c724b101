"""The losses against plain sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.train.splade_loss import (
    anti_zero,
    flops,
    info_nce,
    kl_divergence,
    l1,
    margin_mse,
    mean_terms,
    quadratic_ramp,
)

shapes = st.tuples(st.integers(1, 5), st.integers(2, 6), st.integers(0, 2**32 - 1))


def test_flops_of_the_worked_example():
    assert flops(torch.tensor([[1.0, 3.0], [3.0, 1.0]])).item() == 8.0


@given(shapes)
def test_sparsity_terms_are_their_sums(shape):
    n_texts, n_terms, seed = shape
    rows = np.random.default_rng(seed).normal(size=(n_texts, n_terms))
    weights = torch.tensor(rows)
    mean_of = [sum(abs(row[j]) for row in rows) / n_texts for j in range(n_terms)]
    assert flops(weights).item() == pytest.approx(sum(mean**2 for mean in mean_of))
    assert l1(weights).item() == pytest.approx(sum(mean_of))
    assert mean_terms(weights).item() == pytest.approx((rows > 0).sum() / n_texts)


def test_anti_zero_grows_without_bound_as_vectors_empty():
    full = torch.ones(3, 4)
    assert anti_zero(full).item() == pytest.approx(1 / 16)
    assert anti_zero(full * 0.01).item() == pytest.approx(1e4 / 16)
    assert math.isinf(anti_zero(full * 0).item())


@given(shapes, st.floats(0.5, 20))
def test_info_nce_is_the_softmax_without_masked_documents(shape, temperature):
    n_questions, n_documents, seed = shape
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(n_questions, n_documents)) * 5
    targets = generator.integers(n_documents, size=n_questions)
    masked = generator.random((n_questions, n_documents)) < 0.4
    masked[np.arange(n_questions), targets] = False
    expected = []
    for row, target, never in zip(scores, targets, masked, strict=True):
        kept = [math.exp(s / temperature) for s, one in zip(row, never, strict=True) if not one]
        expected.append(-math.log(math.exp(row[target] / temperature) / sum(kept)))
    found = info_nce(torch.tensor(scores), torch.tensor(targets), torch.tensor(masked), temperature)
    assert found.item() == pytest.approx(np.mean(expected), abs=1e-9)


def test_a_masked_document_gets_no_gradient():
    scores = torch.zeros(1, 3, requires_grad=True)
    info_nce(scores, torch.tensor([0]), torch.tensor([[False, True, False]]), 1.0).backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] == 0
    assert scores.grad[0, 2] > 0


@given(shapes, st.floats(0.5, 20))
def test_distillation_losses_are_their_formulas(shape, temperature):
    n_questions, n_documents, seed = shape
    generator = np.random.default_rng(seed)
    student = generator.normal(size=(n_questions, n_documents)) * 3
    teacher = generator.normal(size=(n_questions, n_documents)) * 3
    squares, divergences = [], []
    for s, t in zip(student, teacher, strict=True):
        squares += [((s[0] - s[j]) - (t[0] - t[j])) ** 2 for j in range(1, n_documents)]
        p = np.exp(t / temperature) / np.exp(t / temperature).sum()
        q = np.exp(s / temperature) / np.exp(s / temperature).sum()
        divergences.append((p * np.log(p / q)).sum())
    given_ = torch.tensor(student), torch.tensor(teacher)
    assert margin_mse(*given_).item() == pytest.approx(np.mean(squares))
    assert kl_divergence(*given_, temperature).item() == pytest.approx(
        np.mean(divergences), abs=1e-9
    )


def test_the_ramp_is_quadratic_and_then_flat():
    assert [quadratic_ramp(step, 4) for step in (0, 1, 2, 4, 9)] == [0, 1 / 16, 1 / 4, 1, 1]
    assert quadratic_ramp(0, 0) == 1
