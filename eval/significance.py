"""Is the difference between two runs more than chance? Paired tests over the same queries.

After Smucker, Allan and Carterette (2007), "A comparison of statistical significance tests for
information retrieval evaluation".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_CHUNK_SIGNS = 4_000_000
_TOLERANCE = 1e-12


def paired_t_test(differences: Values) -> tuple[float, float]:
    """Student's paired t statistic and its two-sided p.

    t = mean(d) / (sd(d) / √n) with n - 1 degrees of freedom. p is 1 when all differences are 0 and
    0 when they are all the same and not 0. With fewer than two queries nothing can be said: p is 1.
    """
    n = len(differences)
    if n < 2 or not differences.any():
        return 0.0, 1.0
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if deviation <= _TOLERANCE * abs(mean):
        return float(np.copysign(np.inf, mean)), 0.0
    from scipy.special import betainc

    t = mean / (deviation / np.sqrt(n))
    # P(|T| > |t|) = I_x(v/2, 1/2) with x = v / (v + t²).
    return float(t), float(betainc((n - 1) / 2, 0.5, (n - 1) / (n - 1 + t * t)))


def fisher_randomisation(
    differences: Values, *, n_permutations: int = 100_000, seed: int = 0
) -> float:
    """Two-sided p of Fisher's randomisation test: how often random signs do as much.

    Counts sign flips with |Σ ±d| ≥ |Σ d|. When all 2^n flips are no more than `n_permutations`
    they are all tried and p is exact; else flips are drawn from `seed` and
    p = (count + 1) / (drawn + 1).
    """
    changed = differences[differences != 0]
    if not len(changed):
        return 1.0
    threshold = abs(float(changed.sum())) - _TOLERANCE * float(np.abs(changed).sum())
    if len(changed) < 63 and 2 ** len(changed) <= n_permutations:
        codes = np.arange(2 ** len(changed), dtype=np.int64)[:, None]
        signs = 1.0 - 2.0 * (codes >> np.arange(len(changed)) & 1)
        return float((np.abs(signs @ changed) >= threshold).mean())
    generator = np.random.default_rng(seed)
    total, count, drawn = float(changed.sum()), 0, 0
    while drawn < n_permutations:
        n_rows = min(n_permutations - drawn, max(1, _CHUNK_SIGNS // len(changed)))
        flipped = generator.integers(0, 2, size=(n_rows, len(changed)), dtype=np.int8)
        count += int((np.abs(total - 2.0 * (flipped @ changed)) >= threshold).sum())
        drawn += n_rows
    return (count + 1) / (n_permutations + 1)


def bootstrap_interval(
    differences: Values, *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Bounds of the mean difference: percentiles of the means of queries drawn with replacement.

    Efron's percentile interval at `level`; drawn from `seed`. At least one difference.
    """
    n = len(differences)
    generator = np.random.default_rng(seed)
    n_rows = max(1, _CHUNK_SIGNS // n)
    means = np.empty(n_resamples)
    for start in range(0, n_resamples, n_rows):
        n_drawn = min(n_rows, n_resamples - start)
        drawn = generator.integers(0, n, size=(n_drawn, n))
        means[start : start + n_drawn] = differences[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjusted p values, in the order given.

    With p_(1) ≤ ... ≤ p_(m): adjusted p_(i) = max over j ≤ i of min(1, (m - j + 1) · p_(j)).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(scaled)
    return [float(value) for value in adjusted]
