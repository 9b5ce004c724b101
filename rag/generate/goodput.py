"""How many tokens to draft: what pays best by measured times and acceptance, 0 included.

With acceptance a a draft of g tokens gives E = (1 - a^(g+1)) / (1 - a) tokens in a round of
`g * draft + verify(g + 1)` seconds; the controller takes the g with the most tokens a second
(goodput: SmartSpec, 2406.14066), and 0 unless that beats plain decoding. A purse bounds what trying
may cost: rounds pay in what they gain or lose against plain decoding, and a probe, a short draft
from a source that does not pay now, must be affordable. Of a batch, a request's seconds are
what it causes (`rag.generate.batch_cost`): its drafts make the others wait.
"""

from __future__ import annotations

import threading

from rag.answer import MAX_DRAFT_TOKENS
from rag.generate.drafter import Source

MIN_GAIN = 1.02
"""A draft must promise this much more than plain decoding."""

SMOOTHING = 0.2
"""Share of a new time in the running mean."""

OUTLIER = 3.0
"""A time counts as at most this many times what was expected: another process had the core."""

FORGETTING = 0.97
"""What a round's acceptance weighs after another round."""

FORGETTING_TIME = 0.995
"""The same of its time, which changes more slowly."""

SLOPE = 0.12
"""Cost of one more token to verify, in steps, before anything was measured."""

PRIOR_TOKENS = 2.0
"""Weight of the acceptance assumed against that measured, in drafted tokens."""

PRIOR_ROUNDS = 0.5
"""The same of times, in rounds."""

ACCEPTANCE = {
    "lookup": (0.2, 0.3, 0.5, 0.65, 0.75, 0.85),
    "suffix": (0.2, 0.3, 0.5, 0.65, 0.75, 0.85),
    "recycle": (0.2, 0.3, 0.5),
    "rapid": (0.8,),
}
"""Acceptance a token before anything was measured, by source."""

PURSE_SHARE = 0.02
"""Share of plain decoding's time that trying may cost."""

PURSE_STEPS = 1.0
"""What the purse holds at most, and at first, in steps."""

PURSE_DEBT = 4.0
"""The deepest it can be in debt, in steps: a time that noise made long is forgotten some day."""

LENGTHS = MAX_DRAFT_TOKENS + 2
"""One more than the most tokens of a forward."""

PROBE_TOKENS = 2
PROBE_AFTER = 16
PROBE_AFTER_MOST = 256
"""Rounds between probes of one source: doubled after each that did not pay."""

CROWD = 4
"""From so many sequences fed together nobody drafts: they share the reading of the weights, which
is what a draft lives on, and one draft among them makes attention dearer for all."""

TARGET: tuple[str, int] = ("target", 0)
"""The source that reads the request's own prompt."""

SMALLER = 0.5
"""What a smaller model is taken to cost before it was measured, in units of the target."""

ENOUGH_READ = 32
"""Tokens whose reading is timed."""

STALE = 1.25
"""The step is measured anew when the text is this many times as long, or as short."""


class Goodput:
    """Times and acceptance of one model and its drafters, learnt over all requests.

    Times are those of one load; acceptance is the same under all.
    """

    def __init__(self, unloaded: Goodput | None = None) -> None:
        self._lock: threading.Lock = threading.Lock() if unloaded is None else unloaded._lock
        self._loaded: dict[int, Goodput] = {}
        self._step_s: float | None = None
        self._measured_at = 1
        self._verify = [_Mean() for _ in range(LENGTHS)]
        self._accepted: dict[Source, _Mean] = {} if unloaded is None else unloaded._accepted
        self._draft_s: dict[Source, float] = {}
        self._read_s: dict[Source, float] = {}
        self._waited: dict[Source, int] = {}
        self._patience: dict[Source, int] = {}
        self._purse = PURSE_STEPS

    def under(self, load: int) -> Goodput:
        """The one for steps that are computed `load` at a time: 1, 2-3, 4-7, 8-15, ..."""
        if load <= 1:
            return self
        with self._lock:
            return self._loaded.setdefault(load.bit_length(), Goodput(self))

    def tokens(self, source: Source, available: int, position: int) -> int:
        """How many tokens to draft from `source` after `position` tokens, at most `available`."""
        with self._lock:
            if available <= 0 or self._step_s is None or self._stale(position):
                return 0
            best = max(range(available + 1), key=lambda n: self._gain(source, n))
            if best and self._gain(source, best) >= MIN_GAIN:
                return best
            return self._probe(source, min(PROBE_TOKENS, available))

    def gain(self, source: Source, available: int) -> float:
        """Tokens a second of the best draft from `source`, over plain decoding's."""
        with self._lock:
            return max(self._gain(source, n) for n in range(available + 1))

    def repays(self, source: Source, n_unread: int, n_left: int) -> bool:
        """Whether drafts for `n_left` tokens save what reading `n_unread` tokens takes.

        Without that question a draft from a model with a prompt of its own, tried once to see how
        it goes, could cost more than all the rest of a text.
        """
        with self._lock:
            gain = max(self._gain(source, n) for n in range(MAX_DRAFT_TOKENS + 1))
            if self._step_s is None or gain < MIN_GAIN:
                return False
            saved_s = n_left * self._step_s * (1 - 1 / gain)
            return saved_s > n_unread * self._reading_s(source)

    def learn_reading(self, source: Source, n_tokens: int, seconds: float) -> None:
        """`n_tokens` of a prompt were read in `seconds`."""
        with self._lock:
            share = seconds / n_tokens
            known = self._read_s.get(source, share)
            self._read_s[source] = known + SMOOTHING * (min(share, OUTLIER * known) - known)

    def record(
        self,
        source: Source,
        n_drafted: int,
        n_accepted: int,
        draft_s: float,
        verify_s: float,
        position: int,
    ) -> None:
        """Learn from one round, which had `position` tokens before it."""
        with self._lock:
            if n_drafted == 0:
                self._learn_step(verify_s, position)
                return
            if self._step_s is None:
                return
            self._learn_round(source, n_drafted, n_accepted, draft_s, verify_s)

    def acceptance(self, source: Source) -> float:
        """The share of this source's tokens that stand, each given that those before it do."""
        name, match = source
        assumed = ACCEPTANCE.get(name, (0.5,))
        prior = assumed[min(match, len(assumed) - 1)]
        return self._accepted.get(source, _NOTHING).shrunk(prior, PRIOR_TOKENS)

    def _stale(self, position: int) -> bool:
        return not self._measured_at / STALE <= position <= self._measured_at * STALE

    def _verify_steps(self, n_tokens: int) -> float:
        """Steps that a forward over `n_tokens` costs: measured, else in line with what was."""
        if n_tokens == 1:
            return 1.0
        return self._verify[n_tokens].shrunk(self._between(n_tokens), PRIOR_ROUNDS)

    def _between(self, n_tokens: int) -> float:
        """The same from the nearest lengths measured: in between, or further on."""
        lower = next((n for n in range(n_tokens - 1, 1, -1) if self._verify[n].weight), 1)
        upper = next((n for n in range(n_tokens + 1, LENGTHS) if self._verify[n].weight), None)
        low = self._verify[lower].value if lower > 1 else 1.0
        if upper is None:
            slope = max(SLOPE, (low - 1.0) / (lower - 1)) if lower > 1 else SLOPE
        else:
            slope = (self._verify[upper].value - low) / (upper - lower)
        return low + slope * (n_tokens - lower)

    def _round_steps(self, source: Source, n_drafted: int) -> float:
        draft = self._draft_s.get(source, self._unknown_draft_s(source)) / (self._step_s or 1.0)
        return n_drafted * draft + self._verify_steps(n_drafted + 1)

    def _unknown_draft_s(self, source: Source) -> float:
        """A model that drafts for itself takes a step a token; what only looks up, nothing."""
        if source[0] != "rapid":
            return 0.0
        return (self._step_s or 1.0) * (1.0 if source[1] == 0 else SMALLER)

    def _reading_s(self, source: Source) -> float:
        """Seconds a token; before anything was read, those of a step."""
        known = self._read_s.get(source)
        if known is not None:
            return known
        share = self._read_s.get(TARGET, self._step_s or 1.0)
        return share if source[1] == 0 else SMALLER * share

    def _gain(self, source: Source, n_drafted: int) -> float:
        if n_drafted == 0:
            return 1.0
        return expected_tokens(self.acceptance(source), n_drafted) / self._round_steps(
            source, n_drafted
        )

    def _probe(self, source: Source, n_tokens: int) -> int:
        """A short draft when it is time for one and the purse can bear the loss."""
        self._waited[source] = self._waited.get(source, 0) + 1
        if self._waited[source] < self._patience.get(source, PROBE_AFTER):
            return 0
        loss = self._round_steps(source, n_tokens) - expected_tokens(
            self.acceptance(source), n_tokens
        )
        if loss > self._purse:
            return 0
        self._waited[source] = 0
        patience = self._patience.get(source, PROBE_AFTER)
        self._patience[source] = min(PROBE_AFTER_MOST, 2 * patience)
        return n_tokens

    def _learn_step(self, verify_s: float, position: int) -> None:
        known = self._step_s
        if known is None or self._stale(position):
            self._step_s = verify_s
        else:
            self._step_s = known + SMOOTHING * (min(verify_s, OUTLIER * known) - known)
        self._measured_at = max(1, position)
        self._earn(PURSE_SHARE)

    def _learn_round(
        self, source: Source, n_drafted: int, n_accepted: int, draft_s: float, verify_s: float
    ) -> None:
        step_s = self._step_s or 1.0
        expected = OUTLIER * self._round_steps(source, n_drafted)
        for mean in self._verify:
            mean.fade(FORGETTING_TIME)
        verify_steps = min(verify_s / step_s, OUTLIER * self._verify_steps(n_drafted + 1))
        self._verify[n_drafted + 1].add(verify_steps, 1.0)
        known = self._draft_s.get(source)
        share = draft_s / n_drafted
        if known is not None:
            share = known + SMOOTHING * (min(share, OUTLIER * known) - known)
        self._draft_s[source] = share
        accepted = self._accepted.setdefault(source, _Mean())
        n_tried = min(n_accepted + 1, n_drafted)
        accepted.fade(FORGETTING)
        accepted.add(n_accepted / n_tried, n_tried)
        n_tokens = n_accepted + 1
        self._earn(n_tokens * (1 + PURSE_SHARE) - min((draft_s + verify_s) / step_s, expected))
        if n_tokens > expected_tokens(0.5, n_drafted) and self._gain(source, n_drafted) > MIN_GAIN:
            self._patience[source] = PROBE_AFTER

    def _earn(self, n_steps: float) -> None:
        self._purse = max(-PURSE_DEBT, min(PURSE_STEPS, self._purse + n_steps))


class _Mean:
    """A mean whose evidence fades."""

    def __init__(self) -> None:
        self.value = 0.0
        self.weight = 0.0

    def add(self, value: float, weight: float) -> None:
        self.weight += weight
        self.value += weight / self.weight * (value - self.value)

    def fade(self, share: float) -> None:
        self.weight *= share

    def shrunk(self, prior: float, weight: float) -> float:
        """The mean, drawn towards what was assumed as long as there is little evidence."""
        return (self.weight * self.value + weight * prior) / (self.weight + weight)


_NOTHING = _Mean()


def expected_tokens(acceptance: float, n_drafted: int) -> float:
    """Tokens that a round commits, the target's own included (Leviathan et al. 2023, eq. 1)."""
    if acceptance >= 1:
        return n_drafted + 1.0
    return (1 - acceptance ** (n_drafted + 1)) / (1 - acceptance)


class Budget:
    """One request's allowance: the controller's word, or a fixed number, within the room left."""

    def __init__(self, goodput: Goodput, n_fixed: int | None) -> None:
        self._all = goodput
        self._goodput = goodput
        self._n_fixed = n_fixed
        self._room = 0
        self._left = 0
        self._position = 1
        self._crowded = False

    def open(self, room: int, position: int, load: int = 1) -> None:
        """Begin a round after `position` tokens, with room for a draft of `room`.

        `load` steps, this one included, were computed at once of late.
        """
        self._left = max(0, room)
        self._room = min(self._left, MAX_DRAFT_TOKENS)
        self._position = position
        self._crowded = load >= CROWD
        self._goodput = self._all.under(load)

    def tokens(self, source: Source, available: int, n_unread: int = 0) -> int:
        """See `rag.generate.drafter.Allowance`."""
        available = min(available, self._room)
        if self._n_fixed is not None:
            return min(available, self._n_fixed)
        if self._crowded:
            return 0
        if n_unread and not self._goodput.repays(source, n_unread, self._left):
            return 0
        return self._goodput.tokens(source, available, self._position)

    def gain(self, source: Source, available: int) -> float:
        """See `rag.generate.drafter.Allowance`."""
        if self._crowded:
            return 1.0
        return self._goodput.gain(source, min(available, self._room))

    def has_read(self, source: Source, n_tokens: int, seconds: float) -> None:
        """See `rag.generate.drafter.Allowance`; a few tokens say little."""
        if n_tokens >= ENOUGH_READ:
            self._all.learn_reading(source, n_tokens, seconds)

    def close(
        self, source: Source, n_drafted: int, n_accepted: int, draft_s: float, verify_s: float
    ) -> None:
        """Tell the controller how the round went."""
        self._goodput.record(source, n_drafted, n_accepted, draft_s, verify_s, self._position)
