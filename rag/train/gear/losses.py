"""The three losses of GeAR: contrastive, language modelling, and where the question looks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from rag.gear.reader import TINY

IGNORED = -100


def contrastive(
    questions: torch.Tensor,
    documents: torch.Tensor,
    others: torch.Tensor,
    masked: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """InfoNCE of questions among documents, and of the batch's documents among questions.

    `questions` `[B, d]` and `documents` `[B, d]`, a pair a row, and `others` `[N, d]` that are
    negatives to all are of unit length. `masked` bool `[B, B + N]` is True where a document
    answers another question too, and must not count against it.
    """
    scores = questions @ torch.cat([documents, others]).t() / temperature
    scores = scores.masked_fill(masked, -torch.inf)
    places = torch.arange(len(questions), device=scores.device)
    back = scores[:, : len(questions)].t()
    return (functional.cross_entropy(scores, places) + functional.cross_entropy(back, places)) / 2


def located(shares: torch.Tensor, gold: Sequence[Sequence[int]]) -> torch.Tensor:
    """−log of the gold sentences' share, summed over rows that have any: a scalar.

    `shares` `[B, S]` sum to 1 over each row's sentences.
    """
    wanted = torch.zeros_like(shares)
    for row, numbers in enumerate(gold):
        wanted[row, list(numbers)] = 1.0
    taken = (shares * wanted).sum(1)
    has = wanted.any(1)
    return -(taken[has] + TINY).log().sum()


def written(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Summed cross entropy of the next words `[T]`; `IGNORED` ones do not count."""
    return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
