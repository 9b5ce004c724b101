from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.significance import bootstrap_interval, fisher_randomisation, holm, paired_t_test

VALUES = st.lists(st.integers(-50, 50).map(lambda i: i / 64), min_size=2, max_size=9)


def sign_flips(differences):
    """The twin: scipy's permutation test over all sign flips."""
    return stats.permutation_test(
        (np.asarray(differences),),
        lambda d, axis: d.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue


@settings(deadline=None)
@given(VALUES)
def test_t_test_equals_scipy(values):
    differences = np.array(values)
    t, p = paired_t_test(differences)
    if differences.std() == 0:
        assert p == (1.0 if differences[0] == 0 else 0.0)
    else:
        twin = stats.ttest_rel(differences, np.zeros_like(differences))
        assert (t, p) == pytest.approx((twin.statistic, twin.pvalue), rel=1e-9)


@settings(deadline=None, max_examples=50)
@given(VALUES)
def test_exact_randomisation_equals_scipy(values):
    assert fisher_randomisation(np.array(values)) == pytest.approx(sign_flips(values), abs=1e-12)


def test_drawn_randomisation_is_near_the_exact_one_and_repeats():
    differences = np.random.default_rng(5).normal(0.2, 1, 14)
    exact = fisher_randomisation(differences)
    drawn = fisher_randomisation(differences, n_permutations=10_000, seed=1)
    assert drawn == pytest.approx(exact, abs=0.02)
    assert drawn == fisher_randomisation(differences, n_permutations=10_000, seed=1)
    assert drawn != fisher_randomisation(differences, n_permutations=10_000, seed=2)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_bootstrap_bounds_are_near_scipys_and_repeat(level):
    differences = np.random.default_rng(3).exponential(1, 25) - 0.7
    low, high = bootstrap_interval(differences, level=level)
    twin = stats.bootstrap(
        (differences,), np.mean, confidence_level=level, method="percentile", rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx((twin.low, twin.high), abs=0.03)
    assert low < differences.mean() < high
    assert bootstrap_interval(differences, level=level) == (low, high)
    assert bootstrap_interval(differences, level=level, seed=9) != (low, high)


def test_equal_runs_do_not_differ():
    assert paired_t_test(np.zeros(5)) == (0.0, 1.0)
    assert fisher_randomisation(np.zeros(5)) == 1.0
    assert paired_t_test(np.array([0.3])) == (0.0, 1.0)


def test_a_constant_gain_is_certain_for_t():
    assert paired_t_test(np.full(5, -0.25)) == (-np.inf, 0.0)


def step_down(p_values):
    """The twin: Holm from its definition, one hypothesis at a time."""
    ranked = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, worst = [0.0] * len(p_values), 0.0
    for place, i in enumerate(ranked):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = worst
    return adjusted


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_equals_its_twin(p_values):
    assert holm(p_values) == pytest.approx(step_down(p_values))


def test_holm_on_a_textbook_case():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
