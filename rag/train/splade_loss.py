"""SPLADE's losses (Formal et al. 2021, 2022; Lassance et al. 2024).

Ranking: InfoNCE over a batch, MarginMSE (Hofstätter et al. 2020) and KL divergence against a
teacher. Sparsity: FLOPS (Paria et al. 2020) or L1, weighed by λ(t), which grows quadratically. And
a term that keeps vectors from becoming empty, from where no gradient leads back.
"""

from __future__ import annotations

import torch
from torch.nn import functional

NEVER = -1e9
"""The score of a document that must not count: its share of a softmax is 0."""


def flops(weights: torch.Tensor) -> torch.Tensor:
    """Σ_j (mean_b |w_bj|)² of `[B, V]`: the expected cost of a dot product.

    Terms that many texts have cost most, so posting lists come out of like length.
    """
    return weights.abs().mean(0).square().sum()


def l1(weights: torch.Tensor) -> torch.Tensor:
    """mean_b Σ_j |w_bj| of `[B, V]`."""
    return weights.abs().sum(1).mean()


def quadratic_ramp(step: int, n_rising: int) -> float:
    """(min(t, T) / T)²: the share of λ that counts at step t of T rising ones (0: all at once)."""
    return (min(step, n_rising) / n_rising) ** 2 if n_rising else 1.0


def info_nce(
    scores: torch.Tensor, targets: torch.Tensor, masked: torch.Tensor, temperature: float
) -> torch.Tensor:
    """−log softmax(s / τ) at the relevant document, averaged over the questions.

    `scores` is `[B, N]`, `targets` `[B]` the relevant document's column, `masked` bool `[B, N]`
    True where a document answers the question although it is not its target.
    """
    return functional.cross_entropy((scores / temperature).masked_fill(masked, NEVER), targets)


def margin_mse(scores: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """mean((s₊ − s₋) − (t₊ − t₋))² of `[B, 1 + n]`, the relevant document in column 0."""
    return functional.mse_loss(scores[:, :1] - scores[:, 1:], teacher[:, :1] - teacher[:, 1:])


def kl_divergence(scores: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(softmax(t) ‖ softmax(s)), both over τ, of `[B, 1 + n]`, averaged over the questions."""
    return functional.kl_div(
        torch.log_softmax(scores / temperature, 1),
        torch.log_softmax(teacher / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )


def anti_zero(weights: torch.Tensor) -> torch.Tensor:
    """1 / (mean_b Σ_j w_bj)² of `[B, V]`: without bound as the vectors become empty."""
    return weights.sum(1).mean().square().reciprocal()


def mean_terms(weights: torch.Tensor) -> torch.Tensor:
    """Terms above zero of an average text: what sparsity is watched by."""
    return (weights > 0).sum(1).float().mean()
