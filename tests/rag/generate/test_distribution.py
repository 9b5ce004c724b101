"""Temperature, top-p, transfer and drawing against slow twins in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexes.errors import ModelError
from rag.generate import distribution
from rag.generate.distribution import (
    apply_temperature,
    check_usable,
    draw,
    keep_legal,
    keep_plausible,
    keep_top_p,
    mixture,
    probabilities,
    transfer,
    usable_best_ids,
)

SCORES = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30)


def softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    return [weight / sum(weights) for weight in weights]


def nucleus(scores: list[float], top_p: float) -> set[int]:
    """The fewest most probable tokens that hold mass >= top_p, one by one."""
    p = softmax(scores)
    kept: list[int] = []
    for token in sorted(range(len(p)), key=lambda t: (-scores[t], t)):
        kept.append(token)
        if math.fsum(p[t] for t in kept) >= top_p:
            break
    return set(kept)


@given(SCORES, st.floats(0.01, 2))
def test_temperature(scores: list[float], temperature: float) -> None:
    ours = probabilities(apply_temperature(torch.tensor(scores), temperature)).tolist()
    assert ours == pytest.approx(softmax([s / temperature for s in scores]), abs=2e-5)


@given(SCORES, st.floats(0.01, 0.999))
def test_top_p_keeps_the_nucleus(scores: list[float], top_p: float) -> None:
    kept = keep_top_p(torch.tensor(scores), top_p)
    ours = {token for token, score in enumerate(kept.tolist()) if score > -math.inf}
    # float32 against exact sums: both answers are right when the mass meets top_p to 1e-5.
    assert nucleus(scores, top_p - 1e-5) <= ours <= nucleus(scores, top_p + 1e-5)
    assert all(kept[token] == scores[token] for token in ours)


def test_equal_scores_are_taken_by_id() -> None:
    kept = keep_top_p(torch.zeros(4), 0.5)
    assert kept.isfinite().tolist() == [True, True, False, False]


def test_top_p_keeps_forbidden_tokens_forbidden() -> None:
    kept = keep_top_p(torch.tensor([-math.inf, 1.0, -math.inf]), 0.9)
    assert kept.isfinite().tolist() == [False, True, False]


@pytest.mark.parametrize("temperature", [1e-4, 1e-5])
def test_cold_sampling_does_not_overflow(temperature: float) -> None:
    scores = apply_temperature(torch.tensor([30.0, -1e4, 29.0]), temperature)
    assert probabilities(scores).tolist() == [1.0, 0.0, 0.0]


@given(SCORES, st.floats(0.01, 0.999))
def test_a_nucleus_is_the_same_however_few_tokens_are_looked_at(
    scores: list[float], top_p: float
) -> None:
    whole = keep_top_p(torch.tensor(scores), top_p)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distribution, "NUCLEUS_TOKENS", (3, 5))
        assert keep_top_p(torch.tensor(scores), top_p).tolist() == whole.tolist()


def test_top_p_of_one_is_all() -> None:
    scores = torch.tensor([1.0, -50.0])
    assert keep_top_p(scores, 1.0).tolist() == scores.tolist()


@given(SCORES, st.floats(0.01, 1))
def test_the_plausible_are_a_share_of_the_best(scores: list[float], beta: float) -> None:
    p = softmax(scores)
    logits = torch.tensor(scores)
    kept = keep_plausible(torch.zeros(len(p)), logits, beta)
    for token, score in enumerate(kept.tolist()):
        if p[token] > max(p) * beta * 1.0001:
            assert score == 0
        if p[token] < max(p) * beta * 0.9999:
            assert score == -math.inf
    assert kept[logits.argmax()] == 0
    assert keep_plausible(logits, logits, 0.0) is logits


def test_the_mask_forbids_and_none_does_not() -> None:
    scores = torch.tensor([1.0, 2.0])
    assert keep_legal(scores, torch.tensor([True, False])).tolist() == [1.0, -math.inf]
    assert keep_legal(scores, None) is scores


@given(st.integers(2, 30), st.floats(0, 50), st.integers(0, 10**6))
def test_transfer_is_the_formula(n_tokens: int, eta: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    z, y = torch.randn(2, n_tokens, generator=generator, dtype=torch.float64) * 2
    z[0] = y[0] = -math.inf
    p, q = softmax(z.tolist()), softmax(y.tolist())
    expected = [
        s + (eta * (b - a) if b >= 0.1 * max(q) else 0)
        for s, a, b in zip(z.tolist(), p, q, strict=True)
    ]
    ours = transfer(z, y, eta).tolist()
    assert ours[0] == -math.inf
    assert ours[1:] == pytest.approx(expected[1:], abs=1e-9)
    assert transfer(z, y, 0.0).tolist() == z.tolist()


@given(st.integers(1, 30), st.floats(0, 1), st.integers(0, 10**6))
def test_a_mixture_mixes_probabilities(n_tokens: int, weight: float, seed: int) -> None:
    z, y = torch.randn(2, n_tokens, generator=torch.Generator().manual_seed(seed)).double()
    mixed = probabilities(mixture(z, y, weight)).tolist()
    p, q = softmax(z.tolist()), softmax(y.tolist())
    assert mixed == pytest.approx(
        [weight * a + (1 - weight) * b for a, b in zip(p, q, strict=True)], abs=1e-9
    )


@pytest.mark.parametrize("score", [math.nan, -math.inf, math.inf])
def test_no_usable_token_is_a_model_error(score: float) -> None:
    with pytest.raises(ModelError):
        check_usable(torch.tensor([score, -math.inf]))
    with pytest.raises(ModelError):
        usable_best_ids(torch.tensor([[1.0, 2.0], [score, -math.inf]]))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.integers(0, 2**31 - 1))
def test_a_forbidden_token_is_never_drawn(scores: list[float], seed: int) -> None:
    forbidden = [-math.inf, *scores, -math.inf]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        assert 0 < draw(probabilities(torch.tensor(forbidden)), generator) <= len(scores)


@pytest.mark.slow
def test_drawing_follows_the_probabilities() -> None:
    from scipy.stats import chisquare

    scores = torch.tensor([0.0, 1.0, -1.0, 2.0, -math.inf, 0.5])
    generator = torch.Generator().manual_seed(3)
    n_draws = 20_000
    counts = torch.bincount(
        torch.tensor([draw(probabilities(scores), generator) for _ in range(n_draws)]), minlength=6
    )
    p = softmax([0.0, 1.0, -1.0, 2.0, -1e9, 0.5])
    allowed = [0, 1, 2, 3, 5]
    observed = [int(counts[t]) for t in allowed]
    assert counts[4] == 0
    assert chisquare(observed, [n_draws * p[t] for t in allowed]).pvalue > 1e-3
    skewed = softmax([0.2, 1.0, -1.0, 2.0, -1e9, 0.5])
    assert chisquare(observed, [n_draws * skewed[t] for t in allowed]).pvalue < 1e-3
