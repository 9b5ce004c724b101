"""Verification: which drafted tokens stand, and what comes instead of the first that does not.

With p the target's distribution, q the one a draft was drawn from and t the one to be emitted, a
drafted x stands with probability min(1, t(x)/q(x)); else the token comes from norm((t - q)+): the
text then follows t exactly (Leviathan et al. 2023, 2211.17192, theorem 1). The rules differ in t:

* `lossless`: t = p.
* `rapid_exact`: t = p after the transfer of knowledge from q; so after the last drafted token, and
  without a draft, q is needed too.
* `ensemble`: t = w p + (1 - w) q, likewise.
* `rapid_paper`: RAPID's algorithm 1. Stands with min(1, t/q), else norm(max(p - t, p - q, 0)),
  after the last from p. Biased: it follows neither p nor t. At temperature 0, which the paper
  leaves open, it is `rapid_exact`.

Greedy decoding takes the best token of t at the reference temperature 1. A drafter without
probabilities (q one-hot) leaves t = p, and one draw from p does for both tests: x stands when the
draw is x. So such a drafter does not even change what a seed gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from indexes.errors import InvalidInput
from rag.answer import Decode, VerifierName
from rag.generate.distribution import is_greedy, mixture, probabilities, transfer
from rag.generate.drafter import Draft
from rag.generate.sampler import Rows, Sampler

if TYPE_CHECKING:
    import torch

DEFAULT_ETA = 5.0
"""RAPID uses 5 to 20 for a model that drafts for itself. At temperature 1, acceptance was highest
at 5 (SmolLM2, 78 positions); colder, more is better."""


class Rule(msgspec.Struct, frozen=True):
    """How drafts are judged. `eta` is the strength of transfer, `weight` that of p in a mixture."""

    name: VerifierName = "lossless"
    eta: float = 0.0
    weight: float = 1.0

    @property
    def needs_q(self) -> bool:
        """Whether a token without a draft still depends on the drafter."""
        return self.name in ("rapid_exact", "ensemble")


def rule_of(decode: Decode) -> Rule:
    """The rule that a request asks for. Raises `InvalidInput` where its options contradict."""
    if decode.drafter != "rapid":
        if decode.verifier not in (None, "lossless"):
            raise InvalidInput(f"{decode.verifier} needs the drafter rapid", "/decode/verifier")
        if decode.eta:
            raise InvalidInput("eta needs the drafter rapid: others teach nothing", "/decode/eta")
        return Rule()
    name = decode.verifier or "rapid_exact"
    if name == "ensemble":
        return Rule("ensemble", weight=decode.target_weight)
    if name == "lossless":
        if decode.eta:
            raise InvalidInput("a lossless verifier has eta 0", "/decode/eta")
        return Rule()
    eta = DEFAULT_ETA if decode.eta is None else decode.eta
    if not eta:
        return Rule()
    return Rule("rapid_exact" if is_greedy(decode) else name, eta)


def verified(
    rule: Rule,
    sampler: Sampler,
    rows: Rows,
    draft: Draft,
    token_of: Callable[[int], int],
    next_q: Callable[[], torch.Tensor | None],
) -> Iterator[tuple[int, bool]]:
    """(token, whether it was drafted) one by one, up to the first that was not.

    `token_of` is `rows.token`, or does the same with more going on. `next_q` gives the drafter's
    scores after the whole draft (None: cancelled, no more tokens); it is only called when the rule
    needs them. A caller that stops at the end of the text saves
    the rest of the work.
    """
    for row, drafted in enumerate(draft.token_ids):
        if draft.scores is None:
            token = token_of(row)
            stands = token == drafted
        else:
            token, stands = judge(rule, sampler, rows.scores(row), draft.scores[row], drafted)
        yield token, stands
        if not stands:
            return
    last = len(draft.token_ids)
    if not rule.needs_q:
        yield token_of(last), False
    elif (q := next_q()) is not None:
        yield sampler.pick(emitted(rule, sampler, rows.scores(last), q)), False


def judge(
    rule: Rule, sampler: Sampler, p: torch.Tensor, q: torch.Tensor, drafted: int
) -> tuple[int, bool]:
    """Keep the drafted token, or choose another in its place. `p` and `q` are scores."""
    wanted = emitted(rule, sampler, p, q)
    if sampler.greedy:
        token = sampler.pick(wanted)
        return token, token == drafted
    target, drawn_from = probabilities(wanted), probabilities(sampler.truncate(q))
    if sampler.accepts(float(target[drafted]) / float(drawn_from[drafted])):
        return drafted, True
    if rule.name == "rapid_paper":
        plain = probabilities(sampler.truncate(p))
        return sampler.draw(paper_residual(plain, target, drawn_from)), False
    return sampler.draw(residual(target, drawn_from)), False


def emitted(rule: Rule, sampler: Sampler, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Scores of t, what the text follows; `p` and `q` are scores before top-p."""
    if rule.name == "ensemble":
        return mixture(sampler.truncate(p), sampler.truncate(q), rule.weight)
    return sampler.truncate(transfer(p, q, rule.eta) if rule.eta else p)


def residual(target: torch.Tensor, drawn_from: torch.Tensor) -> torch.Tensor:
    """(t - q)+, the weights of what replaces a rejected token; t itself where rounding left none.

    Leviathan et al. 2023, section 2.3.
    """
    left = (target - drawn_from).clamp(min=0)
    return left if left.sum() > 0 else target


def paper_residual(
    plain: torch.Tensor, target: torch.Tensor, drawn_from: torch.Tensor
) -> torch.Tensor:
    """max(p - t, p - q, 0), RAPID (2502.20330) algorithm 1; p itself where that is nothing."""
    left = plain - target.minimum(drawn_from)
    return left.clamp(min=0) if left.max() > 0 else plain
