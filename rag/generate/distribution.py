"""The distribution that tokens are drawn from: logits through a list of pure stages.

The order is contrast → mask → plausibility → temperature → top-p. Contrast comes first because it
works on raw values (after a mask, -inf - (-inf) would be NaN); truncation comes last because it
must see the final probabilities. A stage knows nothing but its arguments, so a position decoded
again after a rollback gets the same distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from indexes.errors import ModelError
from rag.answer import Decode

if TYPE_CHECKING:
    import torch

Stage: TypeAlias = "Callable[[torch.Tensor, Sequence[int]], torch.Tensor]"
"""(scores `[vocabulary]` float32, token ids so far, prompt included) → scores `[vocabulary]`.

A token that a stage forbids gets -inf.
"""

GREEDY_BELOW = 1e-5
"""A temperature under this is greedy: the quotient would overflow float32."""


def sampling_stages(decode: Decode) -> list[Stage]:
    """Temperature and top-p as asked for; stages that would change nothing are left out."""
    stages: list[Stage] = []
    if is_greedy(decode):
        return stages
    if decode.temperature != 1.0:
        stages.append(lambda scores, _: apply_temperature(scores, decode.temperature))
    if decode.top_p < 1.0:
        stages.append(lambda scores, _: keep_top_p(scores, decode.top_p))
    return stages


def is_greedy(decode: Decode) -> bool:
    """Whether the most probable token is always taken."""
    return decode.temperature < GREEDY_BELOW


def target_scores(
    logits: torch.Tensor, prefix: Sequence[int], stages: Sequence[Stage]
) -> torch.Tensor:
    """Run the stages in order over one position's logits `[vocabulary]`.

    Raises `ModelError` when no token is left, or the model gave NaN.
    """
    scores = logits
    for stage in stages:
        scores = stage(scores, prefix)
    if not scores.max().isfinite():
        raise ModelError("the model gives no usable next token")
    return scores


def apply_temperature(scores: torch.Tensor, temperature: float) -> torch.Tensor:
    """Scores over temperature, shifted so that the greatest is 0 and nothing overflows."""
    return (scores - scores.max()) / temperature


def keep_top_p(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Forbid all but the nucleus: the fewest most probable tokens that hold mass >= top_p.

    Holtzman et al. 2020 (The Curious Case of Neural Text Degeneration), eq. 3. Equal scores are
    taken in the order of their ids, so the nucleus is the same on every run.
    """
    ordered, order = scores.sort(descending=True, stable=True)
    mass = probabilities(ordered).double().cumsum(0)
    # A token is in the nucleus when what stands before it does not hold enough yet.
    outside = mass.roll(1) >= top_p
    outside[0] = False
    return scores.masked_fill(outside[order.argsort()], float("-inf"))


def probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Softmax in float32 over the last axis."""
    return scores.float().softmax(-1)


def draw(scores: torch.Tensor, generator: torch.Generator) -> int:
    """One token id from softmax(scores), by inversion: one uniform number a token.

    `generator` lives on the CPU, so a seed means the same on every device.
    """
    import torch

    cumulative = probabilities(scores).double().cpu().cumsum(0)
    uniform = torch.rand((), dtype=torch.float64, generator=generator)
    # The first entry above the number: a token of probability 0 adds nothing and is never it.
    return int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
