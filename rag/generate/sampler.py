"""One request's choices: its temperature, its top-p, and every random number it uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rag.answer import Decode
from rag.generate.constraint import ConstraintTrack
from rag.generate.distribution import (
    Steering,
    apply_temperature,
    check_usable,
    draw,
    is_greedy,
    keep_legal,
    keep_plausible,
    keep_top_p,
    probabilities,
    usable_best_ids,
)

if TYPE_CHECKING:
    import torch


class Sampler:
    """Turns logits into scores and scores into tokens; owns the request's seeded generator."""

    def __init__(self, decode: Decode, steering: Steering, track: ConstraintTrack) -> None:
        import torch

        self.greedy = is_greedy(decode)
        self.track = track
        self._decode = decode
        self._steering = steering
        self._generator = torch.Generator("cpu").manual_seed(decode.seed)

    def rows(
        self, logits: torch.Tensor, prefix: Sequence[int], draft: Sequence[int], n_generated: int
    ) -> Rows:
        """The target's rows after `prefix + draft[:i]`, i = 0..len(draft).

        `n_generated` tokens of the prefix are generated ones.
        """
        contrast = self._steering.contrast
        scores = logits if contrast is None else contrast(logits, prefix, draft)
        return Rows(self, logits, scores, n_generated)

    def shape(
        self, logits: torch.Tensor, scores: torch.Tensor, keep: torch.Tensor | None
    ) -> torch.Tensor:
        """Mask, plausibility and temperature over one row `[vocabulary]`; not yet top-p."""
        scores = keep_legal(scores, keep)
        if self._steering.plausibility > 0:
            scores = keep_plausible(scores, keep_legal(logits, keep), self._steering.plausibility)
        return self._temper(check_usable(scores))

    def truncate(self, scores: torch.Tensor) -> torch.Tensor:
        """Top-p; nothing when greedy."""
        return scores if self.greedy else keep_top_p(scores, self._decode.top_p)

    def pick(self, scores: torch.Tensor) -> int:
        """The best token when greedy, else one drawn from softmax(scores)."""
        if self.greedy:
            return usable_best_ids(scores[None])[0]
        return self.draw(probabilities(scores))

    def guess(self, logits: torch.Tensor) -> tuple[torch.Tensor, int]:
        """A drafting model's next token, legal at the track's end, and the scores of its q.

        The token is drawn from truncate(scores); contrast and plausibility are the target's alone.
        """
        scores = self.draft_scores(logits)
        return scores, self.pick(self.truncate(scores))

    def draft_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask, as at the track's end, and temperature over a drafting model's row."""
        keep = self.track.settled(self.track.n_tokens, logits)
        return self._temper(check_usable(keep_legal(logits, keep)))

    def _temper(self, scores: torch.Tensor) -> torch.Tensor:
        return scores if self.greedy else apply_temperature(scores, self._decode.temperature)

    def draw(self, weights: torch.Tensor) -> int:
        """A token in proportion to `weights`."""
        return draw(weights, self._generator)

    def accepts(self, probability: float) -> bool:
        """True with this probability."""
        import torch

        uniform = torch.rand((), dtype=torch.float64, generator=self._generator)
        return float(uniform) < probability

    @property
    def takes_best(self) -> bool:
        """Whether the best legal score is all that counts, whatever the others are."""
        bent = self._steering.plausibility > 0 or self._decode.drafter == "rapid"
        return self.greedy and not bent

    @property
    def is_masked(self) -> bool:
        """Whether constraints may forbid tokens."""
        return bool(self._steering.constraints)

    @property
    def is_plain(self) -> bool:
        """Whether the best token of the bare logits is what is chosen."""
        steering = self._steering
        return self.greedy and not steering.constraints and steering.plausibility <= 0


class Rows:
    """Scores of one verification; a row is worked out when it is reached, most are not."""

    def __init__(
        self, sampler: Sampler, logits: torch.Tensor, scores: torch.Tensor, n_generated: int
    ) -> None:
        self._sampler = sampler
        self._logits = logits
        self._scores = scores
        self._n_generated = n_generated
        self._best = usable_best_ids(scores) if sampler.is_plain else None

    def scores(self, row: int) -> torch.Tensor:
        """Masked, plausible and tempered scores `[vocabulary]`, before top-p."""
        sampler, scores = self._sampler, self._scores[row]
        keep = sampler.track.settled(self._n_generated + row, scores, best_only=sampler.takes_best)
        return sampler.shape(self._logits[row], scores, keep)

    def token(self, row: int) -> int:
        """One token of the target's own distribution."""
        token_id = self.sure_token(row)
        return self.settled_token(row) if token_id is None else token_id

    def sure_token(self, row: int) -> int | None:
        """`token`, where the best one is all that counts and no doubt of constraints is its."""
        if self._best is not None:
            return self._best[row]
        sampler = self._sampler
        if sampler.takes_best and sampler.is_masked:
            return sampler.track.best(self._n_generated + row, self._scores[row])
        return None

    def settled_token(self, row: int) -> int:
        """`token`, with every doubt settled that it depends on."""
        return self._sampler.pick(self._sampler.truncate(self.scores(row)))
