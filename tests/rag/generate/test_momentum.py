"""Momentum decoding against its rule in plain Python, under every drafter."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import Ban, ToyModel

from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.generate.distribution import Steering
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.loop import generate
from rag.generate.momentum import Momentum, repetition
from rag.generate.shown import Shown
from rag.generate.steering import open_steering

N_TOKENS = 12
PROMPT = [1, 2, 3]
NOTHING = Shown([], "", list)


def repeated(text: list[int], token: int, most: int) -> int:
    """The longest end of text + [token] that stands earlier in it, by trying all."""
    whole = [*text, token]
    ends = [
        length
        for length in range(1, min(most, len(text)) + 1)
        for at in range(len(whole) - length)
        if whole[at : at + length] == whole[-length:]
    ]
    return max(ends, default=0)


@given(st.lists(st.integers(0, 2), max_size=25), st.integers(0, 2), st.integers(1, 7))
def test_repetition_is_the_longest_end_seen_before(text, token, most) -> None:
    assert repetition(text, token, most) == repeated(text, token, most)


def choice(row: list[float], text: list[int]) -> int:
    weights = [math.exp(v - max(row)) for v in row]
    p = [w / math.fsum(weights) for w in weights]
    best = sorted(range(len(row)), key=lambda t: -row[t])[:5]
    resisted = {t: repeated(text, t, 6) for t in best}
    allowed = [t for t in best if resisted[t] < 6]
    return max(allowed, key=lambda t: p[t] - 0.2 * resisted[t])


@pytest.mark.slow
@pytest.mark.parametrize("drafter", ["none", "lookup", "recycle", "auto", "rapid"])
@given(st.integers(0, 10**6), st.integers(0, 2), st.floats(0.5, 8))
@settings(max_examples=6, deadline=None)
def test_the_text_follows_the_rule(drafter, seed: int, order: int, sharpness: float) -> None:
    model = ToyModel(N_TOKENS, seed=seed, order=order, sharpness=sharpness)
    text: list[int] = []
    while len(text) < 40:
        text.append(choice(model.logits([*PROMPT, *text]).tolist(), text))
    steering = open_steering(Decode(mode="momentum"), model, NOTHING, 3).steering
    verifier = "lossless" if drafter == "rapid" else None
    decode = Decode(40, drafter=drafter, draft_tokens=4, verifier=verifier)
    drafting = Drafting(DraftMemory(), model, PROMPT)
    ours = generate(model, PROMPT, decode, steering=steering, drafting=drafting)
    assert ours.token_ids == text


def n_longest_repeat(text: list[int]) -> int:
    return max(repeated(text[:end], text[end], 40) for end in range(len(text)))


def test_a_loop_is_left() -> None:
    """Negative control: greedy decoding of the same model never leaves it."""
    model = ToyModel(N_TOKENS, seed=4, order=1)
    greedy = generate(model, PROMPT, Decode(60))
    steering = open_steering(Decode(mode="momentum"), model, NOTHING, 3).steering
    freed = generate(model, PROMPT, Decode(60), steering=steering)
    assert n_longest_repeat(greedy.token_ids) == 40
    assert n_longest_repeat(freed.token_ids) <= 5


def test_what_repeats_too_much_is_still_taken_where_nothing_else_is_legal() -> None:
    model = ToyModel(N_TOKENS, seed=4, order=1)
    only = tuple(Ban(N_TOKENS, token) for token in range(N_TOKENS) if token not in (2, 3))
    steering = Steering(Momentum(), only)
    ours = generate(model, PROMPT, Decode(60), steering=steering)
    assert set(ours.token_ids) == {2, 3}


def test_momentum_comes_after_contrast() -> None:
    def flip(logits, prefix, draft):
        return -logits

    z = torch.tensor([[5.0, 1.0, -5.0]])
    assert Momentum(flip)(z, [0], []).argmax() == 2
    assert Momentum()(z, [0], []).argmax() == 0


def test_momentum_is_greedy() -> None:
    with pytest.raises(InvalidInput, match="temperature"):
        open_steering(Decode(temperature=0.5, mode="momentum"), ToyModel(5), NOTHING, 1)
