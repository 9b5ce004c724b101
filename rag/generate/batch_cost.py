"""What a batch's seconds are made of, so that each sequence in it is charged what it causes.

A batch of N sequences with X tokens more than one each takes about N * a + X * b seconds: the
weights are read once for all, and a token more costs only its own computing. Charging by tokens
alone would make every draft look as dear as that many steps, or, in a batch where the others draft,
cheap. The slope b is a regression over the batches seen, drawn towards the mean seconds a token.
"""

from __future__ import annotations

from collections.abc import Sequence

FORGETTING = 0.99
"""What a batch weighs after another batch of about as many sequences."""

PRIOR_SPREAD = 1.0
"""How much evidence the slope needs: a sum of squared deviations of tokens a sequence."""


class BatchCost:
    """Learns from batches, by their number of sequences: 2-3, 4-7, 8-15, ... together."""

    def __init__(self) -> None:
        self._lines: dict[int, _Line] = {}

    def shares(self, seconds: float, n_tokens: Sequence[int]) -> list[float]:
        """Each sequence's seconds of a batch in which it fed `n_tokens[i]`; they add up.

        Everyone pays the same for taking part, and the slope for each token after the first.
        """
        n_sequences, total = len(n_tokens), sum(n_tokens)
        step_s, extra = seconds / n_sequences, total / n_sequences - 1
        line = self._lines.setdefault(n_sequences.bit_length(), _Line())
        line.add(extra, step_s)
        slope = line.slope(prior=seconds / total)
        return [step_s + slope * (n - 1 - extra) for n in n_tokens]


class _Line:
    """Least squares whose evidence fades."""

    def __init__(self) -> None:
        self._weight = self._x = self._y = 0.0
        self._xx = self._xy = 0.0

    def add(self, x: float, y: float) -> None:
        self._weight = FORGETTING * self._weight + 1
        step = x - self._x
        self._x += step / self._weight
        self._y += (y - self._y) / self._weight
        self._xx = FORGETTING * self._xx + step * (x - self._x)
        self._xy = FORGETTING * self._xy + step * (y - self._y)

    def slope(self, prior: float) -> float:
        """Between 0 and `prior`: a token more never costs more than the mean token."""
        found = (self._xy + PRIOR_SPREAD * prior) / (self._xx + PRIOR_SPREAD)
        return min(max(found, 0.0), prior)
