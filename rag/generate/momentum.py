"""Momentum decoding: the best token, unless it is about to walk round a loop once more.

Lan, Su et al. 2022 (2212.02175). Among the most probable tokens the one with the greatest
p(v) - a f(r(v)) is taken, where r(v) is the length of the longest end of the text, v included,
that stands earlier in it. Greedy, so under drafts it is a rule like any other: a drafted token
stands when it is the one that the rule takes. Only the text itself counts: to repeat the evidence
is no loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rag.generate.distribution import Contrast, probabilities

if TYPE_CHECKING:
    import torch

N_CANDIDATES = 5
"""Tokens among which the rule chooses, k."""

STRENGTH = 0.2
"""a."""

RESISTANCE = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
"""f(r), the authors' for GPT-2 XL; beyond its end a token is taken when there is no other."""

_LIFT = 2.0
"""Lifts the candidates' scores, all at least -1, above log-probabilities, all at most 0."""

_SUNK = 1e4
"""Taken off the score of what would repeat still more: finite, in case nothing else is legal."""


class Momentum:
    """The rule as `rag.generate.distribution.Contrast`, for greedy decoding; one request's.

    The best score is the token that the rule takes, and where a mask forbids it and all other
    candidates, the most probable legal one. `contrast` comes first.
    """

    def __init__(self, contrast: Contrast | None = None) -> None:
        self._contrast = contrast
        self._n_prompt: int | None = None

    def __call__(
        self, logits: torch.Tensor, prefix: Sequence[int], draft: Sequence[int]
    ) -> torch.Tensor:
        """Scores of every row."""
        if self._n_prompt is None:
            self._n_prompt = len(prefix)
        scores = logits if self._contrast is None else self._contrast(logits, prefix, draft)
        text = [*prefix[self._n_prompt :], *draft]
        n_before = len(text) - len(draft)
        ranked = scores.log_softmax(-1)
        for row in range(len(scores)):
            _rank(ranked[row], text[: n_before + row])
        return ranked


def _rank(log_p: torch.Tensor, text: Sequence[int]) -> None:
    """Put the candidates into the rule's order, in place."""
    best = log_p.topk(min(N_CANDIDATES, len(log_p))).indices
    p = probabilities(log_p)[best].tolist()
    for token, mass in zip(best.tolist(), p, strict=True):
        n_repeated = repetition(text, token, len(RESISTANCE))
        if n_repeated < len(RESISTANCE):
            log_p[token] = _LIFT + mass - STRENGTH * RESISTANCE[n_repeated]
        elif log_p[token] > -math.inf:
            log_p[token] -= _SUNK


def repetition(text: Sequence[int], token: int, most: int) -> int:
    """r: how many tokens of `[*text, token]`, from its end, stand earlier in it; at most `most`."""
    longest = 0
    for at in range(len(text) - 1, -1, -1):
        if text[at] != token:
            continue
        length = 1
        while length < most and length <= at and text[at - length] == text[len(text) - length]:
            length += 1
        longest = max(longest, length)
        if longest == most:
            break
    return longest
