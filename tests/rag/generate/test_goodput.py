"""The controller on a simulated clock: it finds what pays, and trying costs next to nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import Ban, ToyContext, ToyModel

from rag.answer import Decode
from rag.generate import loop
from rag.generate.distribution import Steering
from rag.generate.drafter import Allowance, Draft
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.goodput import CROWD, Budget, Goodput, expected_tokens
from rag.generate.loop import Generation, generate

N_TOKENS = 12
NO_EOS = Steering(constraints=(Ban(N_TOKENS, 11),))
Cost = Callable[[int], float]


class Clock:
    """Time that only forwards and drafts take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


class Oracle:
    """Drafts the truth with a given probability a token; each token costs `draft_s`."""

    def __init__(self, model: ToyModel, acceptance: float, clock: Clock, draft_s: float) -> None:
        self._model = model
        self._acceptance = acceptance
        self._clock = clock
        self._draft_s = draft_s
        self._generator = torch.Generator().manual_seed(1)
        self.allowed: list[int] = []

    def propose(self, prefix: Sequence[int], allowance: Allowance) -> Draft:
        n_tokens = allowance.tokens(("oracle", 0), 10)
        self.allowed.append(n_tokens)
        text = list(prefix)
        for _ in range(n_tokens):
            row = self._model.logits(text).clone()
            row[11] = -torch.inf
            if torch.rand((), generator=self._generator) > self._acceptance:
                row[row.argmax()] = -torch.inf
            text.append(int(row.argmax()))
            self._clock.spend(self._draft_s)
        return Draft(("oracle", 0), text[len(prefix) :])

    def observe(self, prefix: Sequence[int], draft: Sequence[int], logits: torch.Tensor) -> None:
        """Nothing to learn."""


def simulate(
    cost: Cost,
    acceptance: float,
    draft_s: float,
    memory: DraftMemory,
    *,
    n_tokens: int = 200,
) -> tuple[float, Generation, list[int]]:
    """Time per token over plain decoding's, and what was allowed."""
    clock = Clock()
    model = ToyModel(N_TOKENS, seed=8, order=3, on_forward=lambda n: clock.spend(cost(n)))
    oracle = Oracle(model, acceptance, clock, draft_s)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "open_drafter", lambda *_: oracle)
        ours = generate(
            model,
            [1, 2, 3],
            Decode(n_tokens, drafter="lookup"),
            steering=NO_EOS,
            drafting=Drafting(memory),
            clock=clock,
        )
    plain = cost(3) + (n_tokens - 1) * cost(1)
    return clock.now / plain, ours, oracle.allowed


@pytest.mark.slow
@given(
    st.floats(0, 1),
    st.floats(0.02, 1.5),
    st.floats(0, 1.5),
    st.floats(0.001, 10),
)
@settings(max_examples=15, deadline=None)
def test_speculation_is_hardly_ever_slower(
    acceptance: float, slope: float, draft: float, step_s: float
) -> None:
    memory = DraftMemory()
    ratios = [
        simulate(lambda n: step_s * (1 + slope * (n - 1)), acceptance, draft * step_s, memory)[0]
        for _ in range(3)
    ]
    # The first request pays for what nobody could know; 200 steps bear it.
    assert max(ratios) < 1.1
    assert sum(ratios[1:]) / 2 < 1.03


@pytest.mark.parametrize(
    ("acceptance", "slope", "draft", "least"),
    [(0.95, 0.05, 0.0, 3.5), (0.8, 0.1, 0.0, 2.0), (0.9, 0.1, 0.2, 1.3), (0.6, 0.15, 0.0, 1.25)],
)
def test_what_pays_is_found(acceptance, slope, draft, least) -> None:
    memory = DraftMemory()
    simulate(lambda n: 1 + slope * (n - 1), acceptance, draft, memory)
    ratio, _, _ = simulate(lambda n: 1 + slope * (n - 1), acceptance, draft, memory)
    assert 1 / ratio > least


def test_what_does_not_pay_is_left_but_for_a_probe_now_and_then() -> None:
    memory = DraftMemory()
    _, _, first = simulate(lambda n: float(n), 0.1, 0.0, memory, n_tokens=400)
    _, ours, later = simulate(lambda n: float(n), 0.1, 0.0, memory, n_tokens=400)
    assert sum(map(bool, first)) < 25
    assert sum(map(bool, later)) <= 12
    assert ours.drafted < 30


def test_a_source_that_gets_better_is_found_again() -> None:
    memory = DraftMemory()

    def cost(n: int) -> float:
        return 1 + 0.1 * (n - 1)

    simulate(cost, 0.0, 0.0, memory, n_tokens=600)
    simulate(cost, 0.97, 0.0, memory, n_tokens=900)
    ratio, _, _ = simulate(cost, 0.97, 0.0, memory, n_tokens=900)
    assert 1 / ratio > 2


def test_a_verification_that_jumps_is_learnt() -> None:
    """Up to four tokens cost no more than one, five cost ten steps."""
    memory = DraftMemory()

    def cost(n: int) -> float:
        return 1.0 if n <= 4 else 10.0

    simulate(cost, 0.9, 0.0, memory, n_tokens=600)
    ratio, _, allowed = simulate(cost, 0.9, 0.0, memory, n_tokens=600)
    assert 1 / ratio > 2.2
    assert sum(n > 3 for n in allowed) < 0.1 * len(allowed)


def test_the_same_times_give_the_same_choices() -> None:
    def run() -> list[int]:
        return simulate(lambda n: 1 + 0.2 * (n - 1), 0.7, 0.1, DraftMemory())[2]

    assert run() == run()


def test_the_first_step_is_plain_and_so_is_one_of_a_much_longer_text() -> None:
    goodput = Goodput()
    assert goodput.tokens(("suffix", 5), 10, position=100) == 0
    goodput.record(("none", 0), 0, 0, 0.0, 1.0, position=100)
    assert goodput.tokens(("suffix", 5), 10, position=101) > 0
    assert goodput.tokens(("suffix", 5), 10, position=130) == 0


def test_a_fixed_number_is_kept_within_the_room() -> None:
    budget = Budget(Goodput(), 4)
    budget.open(room=3, position=10)
    assert budget.tokens(("lookup", 1), 10) == 3
    budget.open(room=30, position=10)
    assert (budget.tokens(("lookup", 1), 10), budget.tokens(("lookup", 1), 2)) == (4, 2)
    budget.open(room=-1, position=10)
    assert budget.tokens(("lookup", 1), 10) == 0


def with_a_reader(
    draft: float | None, n_tokens: int, memory: DraftMemory, n_short: int = 200
) -> tuple[float, Generation]:
    """Time over plain decoding's with a model that first reads `n_short` tokens, .1 steps each.

    A step of it takes `draft` of the target's; None: the target drafts for itself.
    """
    clock = Clock()

    def read(share: float) -> Callable[[int], None]:
        return lambda n: clock.spend(share * (1 + 0.1 * (n - 1)))

    target = ToyModel(N_TOKENS, seed=8, order=3, on_forward=read(1.0))
    drafter = None if draft is None else ToyModel(N_TOKENS, seed=8, order=3, on_forward=read(draft))
    prompt = [index % N_TOKENS for index in range(400)]
    ours = generate(
        target,
        prompt,
        Decode(n_tokens, drafter="rapid", verifier="lossless"),
        steering=NO_EOS,
        drafting=Drafting(memory, drafter, [*prompt[:n_short], *prompt[-3:]]),
        clock=clock,
    )
    plain = 1 + 0.1 * (len(prompt) - 1) + (n_tokens - 1)
    return clock.now / plain, ours


def test_a_drafter_that_cannot_earn_its_reading_does_not_read() -> None:
    memory = DraftMemory()
    for draft, n_tokens in ((None, 300), (0.3, 20)):
        for _ in range(3):
            ratio, ours = with_a_reader(draft, n_tokens, memory)
            assert (ratio, ours.drafted) == (pytest.approx(1.0), 0)


def test_a_small_drafter_reads_where_enough_is_to_be_written() -> None:
    memory = DraftMemory()
    with_a_reader(0.1, 400, memory)
    ratio, ours = with_a_reader(0.1, 400, memory)
    assert ours.accepted > 200
    assert 1 / ratio > 1.3
    assert with_a_reader(0.1, 4, memory)[1].drafted == 0


def test_a_fixed_draft_reads_whatever_it_costs() -> None:
    budget = Budget(Goodput(), 3)
    budget.open(room=5, position=10)
    assert budget.tokens(("rapid", 0), 10, n_unread=100_000) == 3


@given(st.floats(0, 1), st.integers(0, 10))
def test_expected_tokens(acceptance: float, n_drafted: int) -> None:
    by_hand = sum(acceptance**n for n in range(n_drafted + 1))
    assert expected_tokens(acceptance, n_drafted) == pytest.approx(by_hand, rel=1e-6)


class Crowd(ToyModel):
    """A model whose steps are computed with those of 15 others, which makes them seem cheap."""

    def __init__(self, clock: Clock, *, tells: bool) -> None:
        super().__init__(N_TOKENS, seed=8, order=3)
        self.clock = clock
        self.tells = tells

    def open_context(self) -> ToyContext:
        return CrowdContext(self) if self.tells else SilentContext(self)


class SilentContext(ToyContext):
    """A forward of n tokens among 15 of others: 8 seconds, and 3 for each token."""

    def __init__(self, model: Crowd) -> None:
        super().__init__(model)
        self._clock = model.clock

    def forward(self, token_ids: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        self._clock.spend(8 + 3 * (15 + len(token_ids)))
        return super().forward(token_ids, last_only=last_only)


class CrowdContext(SilentContext):
    """One that says what its share is."""

    load = CROWD - 1

    def __init__(self, model: Crowd) -> None:
        super().__init__(model)
        self.waited_s = 0.0

    def forward(self, token_ids: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        n_tokens = 15 + len(token_ids)
        self.waited_s += (8 + 3 * n_tokens) * 15 / n_tokens
        return super().forward(token_ids, last_only=last_only)


@pytest.mark.parametrize("tells", [True, False])
def test_in_a_crowd_a_draft_is_paid_for_by_all(monkeypatch, tells: bool) -> None:
    memory, clock = DraftMemory(), Clock()
    model = Crowd(clock, tells=tells)
    oracle = Oracle(model, 0.6, clock, 0.0)
    monkeypatch.setattr(loop, "open_drafter", lambda *_: oracle)
    generate(
        model,
        [1, 2, 3],
        Decode(300, drafter="lookup"),
        steering=NO_EOS,
        drafting=Drafting(memory),
        clock=clock,
    )
    share_drafted = sum(map(bool, oracle.allowed)) / len(oracle.allowed)
    assert (share_drafted < 0.1) if tells else (share_drafted > 0.7)


def test_nobody_drafts_in_a_crowd_unless_told_to() -> None:
    """However well a source has paid so far."""
    goodput = Goodput()
    for load in (1, CROWD - 1, CROWD):
        goodput.under(load).record(("none", 0), 0, 0, 0.0, 1.0, position=100)
        for _ in range(20):
            goodput.under(load).record(("suffix", 5), 4, 4, 0.0, 1.1, position=100)
    for load, drafts in ((1, True), (CROWD - 1, True), (CROWD, False), (16, False)):
        budget = Budget(goodput, None)
        budget.open(10, 100, load)
        assert (budget.tokens(("suffix", 5), 10) > 0) == drafts
        assert (budget.gain(("suffix", 5), 10) > 1) == drafts
        fixed = Budget(goodput, 6)
        fixed.open(10, 100, load)
        assert fixed.tokens(("suffix", 5), 10) == 6


def test_times_belong_to_a_load_and_acceptance_does_not() -> None:
    goodput = Goodput()
    assert goodput.under(1) is goodput
    assert goodput.under(2) is goodput.under(3)
    loaded = goodput.under(16)
    assert loaded is not goodput.under(8)
    loaded.record(("none", 0), 0, 0, 0.0, 1.0, position=100)
    for _ in range(50):
        loaded.record(("suffix", 5), 4, 4, 0.0, 9.0, position=100)
    assert loaded.tokens(("suffix", 5), 10, position=100) == 0
    assert goodput.tokens(("suffix", 5), 10, position=100) == 0
    goodput.record(("none", 0), 0, 0, 0.0, 1.0, position=100)
    assert goodput.tokens(("suffix", 5), 10, position=100) == 10
    assert goodput.acceptance(("suffix", 5)) == loaded.acceptance(("suffix", 5)) > 0.95
