"""Going on while constraints are asked changes nothing of a text but how soon it is there."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import Ban, NoRepeat, ToyModel, toy_contrast

from indexes.errors import DeadlineExceeded, InvalidInput
from rag.answer import Decode, DrafterName
from rag.generate.distribution import Steering
from rag.generate.loop import Generation, generate

N_TOKENS = 12
EOS = 11
DRAFTERS: list[DrafterName] = ["none", "auto", "lookup", "rapid"]


class Asking:
    """`NoRepeat` whose masks and verdicts come late; all tokens from `doubted` on are doubted.

    Token 7 is never legal, which only `confirms` says.
    """

    asks = True

    def __init__(self, delays: Iterator[float], doubted: int = N_TOKENS) -> None:
        self._inner = NoRepeat(N_TOKENS)
        self._delays = delays
        self._doubts = torch.arange(N_TOKENS) >= doubted
        self._running = threading.Lock()

    def start(self, prompt_ids: Sequence[int]) -> Any:
        return self._inner.start(prompt_ids)

    def advance(self, state: Any, token_id: int) -> Any:
        return self._inner.advance(state, token_id)

    def keep(self, state: Any) -> torch.Tensor:
        self._wait()
        return self._inner.keep(state)

    def doubts(self, state: Any) -> torch.Tensor | None:
        return self._doubts if bool(self._doubts.any()) else None

    def confirms(self, state: Any, token_id: int) -> bool:
        self._wait()
        return token_id != 7

    def _wait(self) -> None:
        assert self._running.acquire(blocking=False), "called in two threads at once"
        time.sleep(next(self._delays))
        self._running.release()


class AtOnce(Asking):
    """The twin: nobody is told that it asks, so the decoding thread waits."""

    asks = False


def delays(seed: int, most_s: float = 0.004) -> Iterator[float]:
    rng = random.Random(seed)
    while True:
        yield rng.choice((0.0, 0.0, most_s))


def run(
    constraint: Asking, decode: Decode, model: ToyModel, *, bent: bool = False, **more: Any
) -> Generation:
    steering = Steering(toy_contrast(0.5) if bent else None, (constraint, Ban(N_TOKENS, 3)))
    return generate(model, [1, 4, 2], decode, steering=steering, **more)


@given(
    seed=st.integers(0, 999),
    order=st.integers(0, 3),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    drafter=st.sampled_from(DRAFTERS),
    doubted=st.sampled_from([N_TOKENS, 6, 0]),
    bent=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_text_is_that_of_waiting(
    seed: int, order: int, temperature: float, drafter: DrafterName, doubted: int, bent: bool
) -> None:
    decode = Decode(
        max_tokens=20, temperature=temperature, seed=seed, drafter=drafter, draft_tokens=3
    )
    model = ToyModel(N_TOKENS, seed=seed, order=order, eos_ids=frozenset([EOS]), context_length=21)
    drafting = {} if drafter != "rapid" else {"drafting": drafting_of_rapid()}
    ours = run(Asking(delays(seed), doubted), decode, model, bent=bent, **drafting)
    twin = run(AtOnce(iter(lambda: 0.0, None), doubted), decode, model, bent=bent, **drafting)
    assert ours.token_ids == twin.token_ids
    assert (ours.text, ours.finish_reason) == (twin.text, twin.finish_reason)


def drafting_of_rapid() -> Any:
    from rag.generate.drafting import Drafting, DraftMemory

    return Drafting(DraftMemory(), prompt_ids=[1, 2])


def test_the_model_goes_on_meanwhile() -> None:
    """It has fed as many tokens as it may when the first answer comes, and has no more to do."""
    fed: list[int] = []
    model = ToyModel(N_TOKENS, order=2, on_forward=fed.append)
    fed_before: list[int] = []

    class Once(Asking):
        def keep(self, state: Any) -> torch.Tensor:
            if not fed_before:
                until = time.monotonic() + 30
                while self.asks and len(fed) < 9 and time.monotonic() < until:
                    time.sleep(0.01)
                time.sleep(0.1)
                fed_before.append(len(fed))
            return torch.ones(N_TOKENS, dtype=torch.bool)

        def advance(self, state: Any, token_id: int) -> Any:
            return state

    def made(asks: bool) -> tuple[Generation, int]:
        fed.clear()
        fed_before.clear()
        constraint = Once(iter(lambda: 0.0, None))
        constraint.asks = asks
        decode = Decode(max_tokens=9, drafter="none")
        found = generate(model, [1], decode, steering=Steering(constraints=(constraint,)))
        return found, fed_before[0]

    ours, n_before = made(asks=True)
    twin, n_before_of_twin = made(asks=False)
    assert ours.token_ids == twin.token_ids
    assert (n_before, n_before_of_twin) == (9, 1)
    assert ours.n_rounds == twin.n_rounds == 8
    assert ours.drafted == 0


def test_no_more_is_fed_than_the_context_holds() -> None:
    """The toy's context raises when more is fed; a guess of the end is not fed at all."""
    for length in range(4, 9):
        model = ToyModel(N_TOKENS, order=1, context_length=length)
        found = run(Asking(delays(1, 0.02)), Decode(max_tokens=50, drafter="none"), model)
        assert found.completion_tokens == length - 3 + 1
        assert found.finish_reason == "length"


@pytest.mark.parametrize("where", ["keep", "confirms", "advance"])
@pytest.mark.parametrize("drafter", ["none", "auto"])
def test_what_asking_raises_is_raised(where: str, drafter: DrafterName) -> None:
    class Broken(Asking):
        n_left = 3

        def _break(self, name: str) -> None:
            self.n_left -= name == where
            if self.n_left == 0:
                raise InvalidInput(f"broken in {name}")

        def keep(self, state: Any) -> torch.Tensor:
            self._break("keep")
            return super().keep(state)

        def confirms(self, state: Any, token_id: int) -> bool:
            self._break("confirms")
            return super().confirms(state, token_id)

        def advance(self, state: Any, token_id: int) -> Any:
            self._break("advance")
            return super().advance(state, token_id)

    with pytest.raises(InvalidInput, match=f"broken in {where}"):
        run(Broken(delays(2), 0), Decode(max_tokens=20, drafter=drafter), ToyModel(N_TOKENS))


def test_it_ends_in_time_and_when_called_off() -> None:
    model = ToyModel(N_TOKENS)
    decode = Decode(max_tokens=200, drafter="none")
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        run(Asking(delays(3)), decode, model, deadline=began + 0.1)
    cancel = threading.Event()
    left = iter(range(30))
    model.on_forward = lambda _: next(left, None) or cancel.set()
    found = run(Asking(delays(3)), decode, model, cancel=cancel)
    assert found.finish_reason == "cancelled"
    assert 0 < found.completion_tokens < 200


def test_its_thread_ends_with_the_text() -> None:
    run(Asking(delays(4)), Decode(max_tokens=3), ToyModel(N_TOKENS))
    until = time.monotonic() + 30
    while any(one.name.startswith("constraints") for one in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
