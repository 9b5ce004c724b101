"""Context-aware decoding: what the evidence changes in the model's mind is made to count more.

With p the distribution after the prompt and p0 that after the same prompt without the evidence,
the text follows p * (p / p0)^alpha: its scores are (1 + alpha) log p - alpha log p0 (Shi et al.
2024, 2305.14739, eq. 3). Both are log-probabilities, and masks come later: a plausibility test sees
the same numbers whatever constant the logits carry, and -inf never meets -inf.

Every row is a function of its own prefix, so drafts and rollbacks change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rag.generate.faithful import Faithful
from rag.generate.null_branch import NullBranch
from rag.generate.question_words import QuestionWords

if TYPE_CHECKING:
    import torch


def contrasted(
    logits: torch.Tensor, null_logits: torch.Tensor, alpha: torch.Tensor
) -> torch.Tensor:
    """`(1 + alpha) log p - alpha log p0`, `[n, vocabulary]`; `alpha` is `[n]`.

    What p forbids stays forbidden.
    """
    log_p, log_p0 = logits.log_softmax(-1), null_logits.log_softmax(-1)
    weight = alpha[:, None]
    scores = (1 + weight) * log_p - weight * log_p0
    return scores.masked_fill(log_p == -math.inf, -math.inf)


def jensen_shannon(logits: torch.Tensor, null_logits: torch.Tensor) -> torch.Tensor:
    """Divergence of the two distributions, row by row, in nats: 0..ln 2, `[n]`.

    AdaCAD takes it for alpha. Each row has its own: a mean over rows would make a token's
    distribution depend on what else is in the batch.
    """
    log_p, log_p0 = logits.log_softmax(-1), null_logits.log_softmax(-1)
    log_m = log_p.logaddexp(log_p0) - math.log(2)
    halves = [(one.exp() * (one - log_m)).nan_to_num(nan=0.0).sum(-1) for one in (log_p, log_p0)]
    return ((halves[0] + halves[1]) / 2).clamp(0.0, math.log(2))


class ContextAware:
    """cad and adacad, as `rag.generate.distribution.Contrast`; one request's.

    Where the null branch expects one of `spared` most, alpha is 0.
    """

    def __init__(
        self, faithful: Faithful, null: NullBranch, spared: QuestionWords | None = None
    ) -> None:
        self.null = null
        self._faithful = faithful
        self._spared = spared
        self._n_prompt: int | None = None
        self._alphas: dict[int, float] = {}

    def __call__(
        self, logits: torch.Tensor, prefix: Sequence[int], draft: Sequence[int]
    ) -> torch.Tensor:
        """Scores of every row. Raises `Cancelled` and `DeadlineExceeded`."""
        if self._n_prompt is None:
            self._n_prompt = len(prefix)
        n_generated = len(prefix) - self._n_prompt
        null_logits = self.null.rows([*prefix[self._n_prompt :], *draft], len(draft) + 1)
        alpha = self._weights(logits, null_logits)
        self._alphas.update(enumerate(alpha.tolist(), n_generated))
        return contrasted(logits, null_logits, alpha)

    def alphas(self, n_tokens: int) -> list[float]:
        """The alpha that each of the first `n_tokens` generated tokens was chosen with."""
        return [self._alphas[at] for at in range(n_tokens)]

    def _weights(self, logits: torch.Tensor, null_logits: torch.Tensor) -> torch.Tensor:
        faithful = self._faithful
        if faithful.rule == "cad":
            alpha = logits.new_full((len(logits),), faithful.alpha)
        else:
            alpha = jensen_shannon(logits, null_logits).clamp(faithful.floor, faithful.cap)
        if self._spared is not None:
            for row, spared in enumerate(self._spared.has(null_logits.argmax(-1).tolist())):
                if spared:
                    alpha[row] = 0
        return alpha


class EvidenceBonus:
    """cfb: a constant on the logits of the evidence's tokens, as `Contrast`.

    The tokens that end a text get it too, or it would not end.
    """

    def __init__(self, bonus: float, token_ids: Iterable[int], eos_ids: Iterable[int]) -> None:
        self._bonus = bonus
        self._ids = sorted({*token_ids, *eos_ids})

    def __call__(
        self, logits: torch.Tensor, _prefix: Sequence[int], _draft: Sequence[int]
    ) -> torch.Tensor:
        """Scores of every row."""
        scores = logits.clone()
        scores[:, self._ids] += self._bonus
        return scores
