"""The distribution that tokens are drawn from: pure functions of one position's scores.

The order is contrast → mask → plausibility → temperature → (transfer) → top-p. Contrast comes
first because it works on raw values (after a mask, -inf - (-inf) would be NaN); truncation comes
last because it must see the final probabilities, and because a token cut too early could not be
rescued by the transfer. No function knows anything but its arguments, so a position decoded again
after a rollback gets the same distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from indexes.errors import ModelError
from rag.answer import Decode
from rag.generate.constraint import Constraint
from rag.generate.language_model import Context

if TYPE_CHECKING:
    import torch

Contrast: TypeAlias = "Callable[[torch.Tensor, Sequence[int], Sequence[int]], torch.Tensor]"
"""(logits `[n + 1, vocabulary]`, prefix, draft of n tokens) → scores of the same shape.

Row i follows `prefix + draft[:i]`, and its scores must be a function of that and of its logits.
"""

GREEDY_BELOW = 1e-5
"""A temperature under this is greedy: the quotient would overflow float32."""

TRANSFER_TAIL = 0.1
"""Transfer leaves tokens alone that the drafter gives less than this share of its top probability:
RAPID's code, whose form is normalised, and not its eq. 9."""

NUCLEUS_TOKENS = (256, 4096)
"""Top-p looks for the nucleus among so many tokens first, which is far faster than to sort all."""


class Beside(Protocol):
    """What a contrast computes of the same tokens after another prompt."""

    def forward_with(
        self, context: Context, token_ids: Sequence[int], generated: Sequence[int]
    ) -> torch.Tensor:
        """`context.forward(token_ids)`, in one run with what the contrast will need after it.

        `generated` is all that was generated, with the draft, and ends with `token_ids`.
        """


class Steering(msgspec.Struct, frozen=True):
    """What bends the model's distribution before temperature and top-p, in this order.

    `plausibility` is beta of contrastive decoding; 0 is off. `beside` is fed with the target.
    """

    contrast: Contrast | None = None
    constraints: tuple[Constraint, ...] = ()
    plausibility: float = 0.0
    beside: Beside | None = None


def is_greedy(decode: Decode) -> bool:
    """Whether the most probable token is always taken."""
    return decode.temperature < GREEDY_BELOW


def keep_legal(scores: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
    """Forbid what `keep` (bool `[vocabulary]`, None: nothing is forbidden) does not name."""
    return scores if keep is None else scores.masked_fill(~keep.to(scores.device), -math.inf)


def keep_plausible(scores: torch.Tensor, logits: torch.Tensor, beta: float) -> torch.Tensor:
    """Forbid tokens with less than `beta` times the top probability under the masked `logits`.

    Li et al. 2023 (Contrastive Decoding), eq. 3; on masked logits, so it can never empty what is
    legal.
    """
    if beta <= 0:
        return scores
    return scores.masked_fill(logits < logits.max() + math.log(beta), -math.inf)


def check_usable(scores: torch.Tensor) -> torch.Tensor:
    """The scores. Raises `ModelError` when no token is left, or the model gave NaN."""
    if not math.isfinite(float(scores.max())):
        raise ModelError("the model gives no usable next token")
    return scores


def apply_temperature(scores: torch.Tensor, temperature: float) -> torch.Tensor:
    """Scores over temperature, shifted so that the greatest is 0 and nothing overflows."""
    return (scores - scores.max()) / temperature


def transfer(scores: torch.Tensor, draft_scores: torch.Tensor, eta: float) -> torch.Tensor:
    """RAPID's retrieval-augmented target: `scores + eta * (q - p)` where q is not in its tail.

    RAPID (2502.20330), eq. 6-8: one step of the target's logits up the gradient of the distilling
    loss, in units of the temperature that both scores were divided by. Forbidden stays forbidden.
    """
    p, q = probabilities(scores), probabilities(draft_scores)
    return scores + eta * (q - p).masked_fill(q < TRANSFER_TAIL * q.max(), 0.0)


def mixture(scores: torch.Tensor, draft_scores: torch.Tensor, weight: float) -> torch.Tensor:
    """Scores of `weight * p + (1 - weight) * q` (DIVERSED, 2604.07622)."""
    p, q = probabilities(scores), probabilities(draft_scores)
    return (weight * p + (1 - weight) * q).log()


def keep_top_p(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Forbid all but the nucleus: the fewest most probable tokens that hold mass >= top_p.

    Holtzman et al. 2020 (The Curious Case of Neural Text Degeneration), eq. 3. Equal scores are
    taken in the order of their ids, so the nucleus is the same on every run.
    """
    if top_p >= 1:
        return scores
    p = probabilities(scores).double()
    for n_best in (*NUCLEUS_TOKENS, len(scores)):
        # All tokens down to the n-th best score, with those that tie with it.
        least = scores.topk(min(n_best, len(scores))).values[-1]
        ids = (scores >= least).nonzero()[:, 0]
        if p[ids].sum() >= top_p:
            break
    ids = ids[scores[ids].argsort(descending=True, stable=True)]
    # A token is in the nucleus when what stands before it does not hold enough yet.
    before = p[ids].cumsum(0).roll(1)
    before[0] = 0.0
    nucleus = ids[before < top_p]
    kept = scores.new_full(scores.shape, -math.inf)
    kept[nucleus] = scores[nucleus]
    return kept


def probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Softmax over the last axis, in float32 or better."""
    return (scores.float() if scores.itemsize < 4 else scores).softmax(-1)


def best_ids(scores: torch.Tensor) -> list[int]:
    """The best token of each row `[vocabulary]`; the first of equals."""
    # numpy's argmax is several times as fast as torch's on a CPU.
    best = scores.argmax(-1) if scores.is_cuda else scores.numpy().argmax(-1)
    ids: list[int] = best.tolist()
    return ids


def usable_best_ids(scores: torch.Tensor) -> list[int]:
    """`best_ids`. Raises `ModelError` like `check_usable`, row by row."""
    ids = best_ids(scores)
    best = scores.amax(-1) if scores.is_cuda else scores.numpy()[range(len(ids)), ids]
    if not all(map(math.isfinite, best.tolist())):
        raise ModelError("the model gives no usable next token")
    return ids


def draw(weights: torch.Tensor, generator: torch.Generator) -> int:
    """One token id in proportion to `weights`, by inversion: one uniform number a token.

    `generator` lives on the CPU, so a seed means the same on every device.
    """
    import torch

    cumulative = weights.double().cpu().cumsum(0)
    uniform = torch.rand((), dtype=torch.float64, generator=generator)
    # The first entry above the number: a token of probability 0 adds nothing and is never it.
    return int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
