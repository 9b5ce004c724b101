"""Monitors in the loop: they bind texts, drafts change nothing, rollbacks leave no trace."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spelled_toys import spelled_model, tokens_over
from toy_models import Ban, ToyModel

from indexes.errors import InvalidInput, ModelError, Unsupported
from rag.answer import Decode, DecodeReport
from rag.generate.constraint import ConstraintTrack
from rag.generate.distribution import Steering
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.loop import Generation, generate
from rag.generate.monitors.together import Together
from rag.generate.shown import Shown
from rag.generate.steering import open_steering

ALPHABET = '[]12 a"b.éP'
EVIDENCE = Shown(["b a 12.", 'aéb "Pa" é'], "1", list)
PROMPT = [0, 3, 1]
FUSED = [b"[12]", b'"P', b" P1", b"]2", b"[1", b'" "']
"""Tokens that would step over a check of the text's last character."""
MONITORS = ["citation", "quote", "numbers", "names"]
DRAFTERS = ["none", "lookup", "recycle", "auto", "rapid"]


def text_of(model: ToyModel, made: Generation) -> str:
    return b"".join(model.tokenizer.trie.spelled[i] or b"" for i in made.token_ids).decode(
        errors="replace"
    )


def bound(name: str, text: str) -> bool:
    """What a finished text promises, by regular expressions."""
    match name:
        case "citation":
            return set(re.findall(r"\[\s*(\d+)\s*\]", text)) <= {"1", "2"}
        case "quote":
            parts = text.split('"')[1::2]
            return all(any(p in t for t in ("b a 12.", "aéb ", "Pa", " é")) for p in parts)
        case "numbers":
            outside = re.sub(r"\[[^\]]*\]", " ", text)
            return set(re.findall(r"\d+", outside)) <= {"12", "1"}
    words = re.findall(r"[A-Za-z0-9\u00c0-\u07ff]+", text)
    return {w for w in words if w[0] == "P"} <= {"Pa"}


@pytest.mark.slow
@pytest.mark.parametrize("names", [[name] for name in MONITORS] + [MONITORS], ids=lambda n: n[-1])
@given(tokens_over(ALPHABET), st.integers(0, 10**6), st.floats(0.3, 2), st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_texts_are_bound_and_drafts_change_nothing(
    names: list[str], tokens: list[bytes], seed: int, sharpness: float, sampled: int
) -> None:
    model = spelled_model([*tokens, *FUSED], seed=seed, order=2, sharpness=sharpness)
    for temperature in (0.0, 1.0):
        texts = set()
        for drafter in DRAFTERS if temperature == 0 else DRAFTERS[:-1]:
            verifier = "lossless" if drafter == "rapid" else None
            decode = Decode(40, temperature, seed=sampled, drafter=drafter, verifier=verifier,
                            draft_tokens=None if drafter == "none" else 4,
                            monitors=names)  # fmt: skip
            steered = open_steering(decode, model, EVIDENCE, 3)
            drafting = Drafting(DraftMemory(), model, PROMPT)
            made = generate(model, PROMPT, decode, steering=steered.steering, drafting=drafting)
            texts.add(tuple(made.token_ids))
            report = steered.report(DecodeReport(), decode, len(made.token_ids))
            assert report.monitors == names
            assert 0 <= report.masked <= len(made.token_ids)
            if made.finish_reason == "stop":
                assert all(bound(name, text_of(model, made)) for name in names)
        assert len(texts) == 1


class Counting(ToyModel):
    """Its rows depend on how many tokens came before: it differs without its evidence."""

    def logits(self, prefix: Sequence[int]) -> torch.Tensor:
        return super().logits([len(prefix) % 5, *prefix[-2:]])


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["cad:0.5", "adacad", "cfb:3"])
@given(tokens_over(ALPHABET), st.integers(0, 10**6), st.floats(0.3, 2))
@settings(max_examples=4, deadline=None)
def test_with_a_contrast_too_drafts_change_nothing(
    rule: str, tokens: list[bytes], seed: int, sharpness: float
) -> None:
    """Greedy: every rule, all monitors, every drafter, drafts of several lengths."""
    model = spelled_model([*tokens, *FUSED], seed=seed, order=3, sharpness=sharpness)
    model.__class__ = Counting
    shown = Shown(EVIDENCE.texts, "1", lambda: PROMPT[:1])
    texts = set()
    for drafter in [*DRAFTERS, "suffix"]:
        for gamma in (None,) if drafter == "none" else (0, 1, 4, 10):
            verifier = "lossless" if drafter == "rapid" else None
            decode = Decode(30, drafter=drafter, verifier=verifier, draft_tokens=gamma,
                            faithful=rule, monitors=MONITORS, plausibility=0.05)  # fmt: skip
            steered = open_steering(decode, model, shown, len(PROMPT))
            drafting = Drafting(DraftMemory(), model, PROMPT)
            made = generate(model, PROMPT, decode, steering=steered.steering, drafting=drafting)
            texts.add(tuple(made.token_ids))
            if made.finish_reason == "stop":
                assert all(bound(name, text_of(model, made)) for name in MONITORS)
    assert len(texts) == 1


def test_a_contrast_changes_texts_that_monitors_bind() -> None:
    """Or the test above would show nothing."""
    changed = 0
    for seed in range(10):
        model = spelled_model([*FUSED, *(bytes([b]) for b in b'[]12 a"bP')], seed=seed, order=3)
        model.__class__ = Counting
        shown = Shown(EVIDENCE.texts, "1", lambda: PROMPT[:1])
        made = []
        for rule in ("off", "cad:1"):
            decode = Decode(30, drafter="none", faithful=rule, monitors=MONITORS)
            steered = open_steering(decode, model, shown, len(PROMPT))
            made.append(generate(model, PROMPT, decode, steering=steered.steering).token_ids)
        changed += made[0] != made[1]
    assert changed >= 5


def test_without_them_texts_are_not_bound() -> None:
    """Negative control."""
    unbound = dict.fromkeys(MONITORS, 0)
    for seed in range(60):
        model = spelled_model(
            [*FUSED, *(bytes([b]) for b in b'[]12 a"bP')], seed=seed, sharpness=0.5
        )
        made = generate(model, [0], Decode(40, 1.0, seed=seed))
        text = text_of(model, made)
        for name in MONITORS:
            unbound[name] += not bound(name, text)
    assert min(unbound.values()) > 3


@pytest.mark.slow
@given(
    tokens_over(ALPHABET), st.lists(st.tuples(st.integers(0, 99), st.integers(0, 5)), max_size=20)
)
@settings(max_examples=25, deadline=None)
def test_after_any_rollbacks_masks_are_those_of_a_replay(tokens, steps) -> None:
    model = spelled_model(tokens)
    decode = Decode(monitors=MONITORS)

    def fresh() -> ConstraintTrack:
        return ConstraintTrack(open_steering(decode, model, EVIDENCE, 3).steering.constraints, [0])

    track, kept = fresh(), list[int]()
    for choice, n_back in steps:
        keep = track.keep(track.n_tokens)
        legal = range(model.vocabulary_size) if keep is None else keep.nonzero()[:, 0].tolist()
        track.push(legal[choice % len(legal)])
        kept.append(legal[choice % len(legal)])
        if n_back < 3:
            kept = kept[: max(0, len(kept) - n_back)]
            track.truncate(len(kept))
        replay = fresh()
        for token in kept:
            replay.push(token)
        for position in range(len(kept) + 1):
            ours, theirs = track.keep(position), replay.keep(position)
            assert (ours is None) == (theirs is None)
            assert ours is None or torch.equal(ours, theirs)


class Odd:
    """Allows a fixed set; counts what it is told."""

    def __init__(self, *allowed: int) -> None:
        self._keep = torch.zeros(4, dtype=torch.bool)
        self._keep[list(allowed)] = True

    def start(self, prompt_ids: Sequence[int]) -> int:
        return 0

    def advance(self, state: int, token_id: int) -> int:
        return state + 1

    def keep(self, state: int) -> torch.Tensor:
        return self._keep


def test_the_later_monitor_gives_way() -> None:
    together = Together([Odd(0, 1), Odd(1, 2), Odd(2), Odd(1, 3)])
    assert together.keep(together.start([])).tolist() == [False, True, False, False]
    assert together.n_masked(1) == 1
    assert together.n_masked(0) == 0


def test_a_set_that_is_empty_from_the_first_is_a_model_error() -> None:
    model = ToyModel(4)
    with pytest.raises(ModelError):
        generate(model, [0], Decode(4), steering=Steering(constraints=(Together([Odd()]),)))


def test_what_must_come_is_drafted_for_nothing() -> None:
    """After "[1" only "]" can come: a token that no forward is spent on."""
    model = spelled_model([b"[", b"1", b"]", b"a"], seed=3, sharpness=0.3)
    made = {}
    for drafter in ("none", "lookup"):
        decode = Decode(60, 1.0, seed=2, drafter=drafter, monitors=["citation"])
        monitors = open_steering(decode, model, Shown(["x"], "", list), 1).steering.constraints
        endless = Steering(constraints=(Ban(5, 4), *monitors))
        made[drafter] = generate(model, [0], decode, steering=endless)
    plain, drafted = made["none"], made["lookup"]
    assert plain.token_ids == drafted.token_ids
    n_cited = text_of(model, plain).count("[1]")
    assert n_cited > 2
    assert drafted.accepted >= n_cited
    assert drafted.n_rounds <= plain.n_rounds - n_cited


def test_monitors_that_cannot_be() -> None:
    model = spelled_model([b"a"])
    with pytest.raises(InvalidInput, match="citation, quote"):
        open_steering(Decode(monitors=["nonsense"]), model, EVIDENCE, 1)
    with pytest.raises(InvalidInput, match="evidence"):
        open_steering(Decode(monitors=["quote"]), model, Shown([""], "", list), 1)
    with pytest.raises(Unsupported):
        open_steering(Decode(monitors=["quote"]), ToyModel(4), EVIDENCE, 1)
    assert open_steering(Decode(), model, EVIDENCE, 1).steering.constraints == ()
