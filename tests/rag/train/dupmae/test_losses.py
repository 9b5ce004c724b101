"""The losses on cases computed by hand, and against plain sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.train.dupmae.losses import Terms, bag_of_words_loss, tie_loss, token_loss
from rag.train.dupmae.recipe import DuplexLossConfig
from rag.train.dupmae.task import duplex_loss


def test_bag_of_words_of_a_worked_example():
    # Softmax of (ln 4, ln 2, ln 1, ln 1) is (1/2, 1/4, 1/8, 1/8).
    pooled = torch.tensor([[4.0, 2.0, 1.0, 1.0]]).log()
    found = bag_of_words_loss(pooled, [torch.tensor([0, 2])])
    assert found.item() == pytest.approx((math.log(2) + math.log(8)) / 2)


def test_each_text_weighs_the_same_however_many_words_it_has():
    pooled = torch.tensor([[4.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]).log()
    bags = [torch.tensor([0]), torch.tensor([1, 2, 3])]
    assert bag_of_words_loss(pooled, bags).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_the_decoder_loss_of_a_worked_example():
    logits = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log()
    found = token_loss(logits, torch.tensor([0, 1]))
    assert found.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_the_tie_is_one_minus_the_cosine():
    found = tie_loss(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [2.0, 0.0]]))
    assert found.item() == pytest.approx((0.4 + 0.0) / 2)


@given(st.integers(0, 2**32 - 1), st.integers(0, 50))
def test_terms_hold_all_that_is_needed(seed, n_others):
    torch.manual_seed(seed)
    needed = torch.randint(100, (7,))
    terms = Terms(needed, n_others, 100)
    assert torch.equal(terms.ids[terms.places(needed)], needed)
    assert torch.equal(terms.ids, terms.ids.unique())
    assert len(terms.ids) <= (100 if n_others == 0 else 7 + n_others)


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


@given(st.integers(0, 2**32 - 1))
def test_the_ranking_loss_is_its_formula(seed):
    generator = np.random.default_rng(seed)
    n_questions, n_each = 3, 4
    dense, lexical = generator.normal(size=(2, n_questions, n_questions * n_each))
    teacher = generator.normal(size=(n_questions, n_each))
    masked = generator.random((n_questions, n_questions * n_each)) < 0.3
    for number in range(n_questions):
        masked[number, number * n_each] = False
    config = DuplexLossConfig(contrastive=0.3, kl=0.5, halves=0.7, teacher_scale=2.0)
    found = duplex_loss(*(torch.tensor(one) for one in (dense, lexical, teacher, masked)), config)
    nce, divergence = [], {"both": [], "dense": [], "lexical": []}
    for number in range(n_questions):
        own = slice(number * n_each, (number + 1) * n_each)
        target = softmax(2.0 * teacher[number])
        both = dense[number] + lexical[number]
        kept = np.where(masked[number], -np.inf, both)
        nce.append(-np.log(softmax(kept)[number * n_each]))
        for name, scores in (
            ("both", both[own]),
            ("dense", 2 * dense[number][own]),
            ("lexical", 2 * lexical[number][own]),
        ):
            divergence[name].append((target * np.log(target / softmax(scores))).sum())
    expected = 0.3 * np.mean(nce) + 0.5 * np.mean(divergence["both"])
    expected += 0.7 * (np.mean(divergence["dense"]) + np.mean(divergence["lexical"])) / 2
    assert found["ranking"].item() == pytest.approx(expected)
