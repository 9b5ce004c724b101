"""Temperature, top-p and drawing against slow twins in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexes.errors import ModelError
from rag.answer import Decode
from rag.generate.distribution import (
    apply_temperature,
    draw,
    keep_top_p,
    probabilities,
    sampling_stages,
    target_scores,
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
    stages = sampling_stages(Decode(temperature=temperature))
    scores = target_scores(torch.tensor([30.0, -1e4, 29.0]), [], stages)
    assert probabilities(scores).tolist() == [1.0, 0.0, 0.0]


def test_greedy_has_no_stage_and_plain_sampling_neither() -> None:
    assert sampling_stages(Decode(temperature=0, top_p=0.5)) == []
    assert sampling_stages(Decode(temperature=1, top_p=1)) == []
    assert len(sampling_stages(Decode(temperature=0.7, top_p=0.9))) == 2


def test_stages_run_in_order_and_see_the_prefix() -> None:
    seen = []

    def first(scores: torch.Tensor, prefix: object) -> torch.Tensor:
        seen.append(("first", prefix))
        return scores + 1

    def second(scores: torch.Tensor, prefix: object) -> torch.Tensor:
        seen.append(("second", prefix))
        return scores * 2

    assert target_scores(torch.tensor([1.0]), [7, 8], [first, second]).tolist() == [4.0]
    assert seen == [("first", [7, 8]), ("second", [7, 8])]


@pytest.mark.parametrize("score", [math.nan, -math.inf, math.inf])
def test_no_usable_token_is_a_model_error(score: float) -> None:
    with pytest.raises(ModelError):
        target_scores(torch.tensor([score, -math.inf]), [], [])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.integers(0, 2**31 - 1))
def test_a_forbidden_token_is_never_drawn(scores: list[float], seed: int) -> None:
    forbidden = [-math.inf, *scores, -math.inf]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        assert 0 < draw(torch.tensor(forbidden), generator) <= len(scores)


def test_drawing_follows_the_probabilities() -> None:
    from scipy.stats import chisquare

    scores = torch.tensor([0.0, 1.0, -1.0, 2.0, -math.inf, 0.5])
    generator = torch.Generator().manual_seed(3)
    n_draws = 20_000
    counts = torch.bincount(
        torch.tensor([draw(scores, generator) for _ in range(n_draws)]), minlength=6
    )
    p = softmax([0.0, 1.0, -1.0, 2.0, -1e9, 0.5])
    allowed = [0, 1, 2, 3, 5]
    observed = [int(counts[t]) for t in allowed]
    assert counts[4] == 0
    assert chisquare(observed, [n_draws * p[t] for t in allowed]).pvalue > 1e-3
    skewed = softmax([0.2, 1.0, -1.0, 2.0, -1e9, 0.5])
    assert chisquare(observed, [n_draws * skewed[t] for t in allowed]).pvalue < 1e-3
