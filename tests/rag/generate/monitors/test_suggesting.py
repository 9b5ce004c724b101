"""Monitors over text: every word after a trigger is a suggestion, however tokens are cut."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spelled_toys import spelled_model, tokens_over
from toy_models import Ban, ToyModel

from indexes.errors import ModelError
from rag.answer import Decode
from rag.generate.constraint import DOUBT_FLOOR, ConstraintTrack
from rag.generate.distribution import Steering
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.loop import Generation, generate
from rag.generate.monitors.suggesting import SuggestingMonitor
from rag.generate.monitors.together import Together
from rag.generate.monitors.vocabulary import vocabulary_of

ALPHABET = "ab.1 ("
FUSED = [b".a", b"a.b", b".bb", b"..", b".ab(", b"b.a.b"]
DRAFTERS = ["none", "lookup", "recycle", "auto", "rapid"]


class AfterPoint:
    """After a point come only words that what stands before it has a member of."""

    name = "after-point"
    word = b"abcdefghijklmnopqrstuvwxyz0123456789_"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def triggers(self, text: str) -> bytes:
        return b"."

    def pre(self, text: str) -> bool:
        return bool(re.search(r"[a-z]\.$", text))

    def suggest(self, text: str) -> frozenset[str]:
        self.asked.append(text)
        # A function of the text: which members depends on its length; at times none are known.
        return [frozenset({"ab", "abb"}), frozenset({"b"}), frozenset[str]()][len(text) % 3]


def monitored(model: ToyModel, before: str = "") -> tuple[SuggestingMonitor, AfterPoint]:
    asked = AfterPoint()
    return SuggestingMonitor(asked, vocabulary_of(model), before), asked


def is_bound(text: str, before: str = "") -> bool:
    """Every whole word after a point, where members are known, is one of them."""
    whole = before + text
    for found in re.finditer(r"(?<=[a-z])\.", whole):
        known = AfterPoint().suggest(whole[: found.end()])
        rest = whole[found.end() :]
        word = re.match(r"[a-z0-9_]*", rest)[0]
        ended = len(word) < len(rest)
        if found.end() <= len(before) and found.end() != len(before):
            continue
        if known and (word not in known if ended else not any(k.startswith(word) for k in known)):
            return False
    return True


def text_of(model: ToyModel, made: Generation) -> str:
    return b"".join(model.tokenizer.trie.spelled[i] or b"" for i in made.token_ids).decode()


@pytest.mark.slow
@given(tokens_over(ALPHABET), st.integers(0, 10**6), st.floats(0.3, 2), st.integers(0, 99),
       st.sampled_from(["", "a.", "ab"]))  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_every_word_is_a_suggestion(tokens, seed, sharpness, sampled, before) -> None:
    model = spelled_model([*tokens, *FUSED], seed=seed, order=2, sharpness=sharpness)
    for temperature, top_p in ((0.0, 1.0), (1.0, 1.0), (1.0, 0.8)):
        texts = set()
        for drafter in DRAFTERS if temperature == 0 else DRAFTERS[:-1]:
            verifier = "lossless" if drafter == "rapid" else None
            decode = Decode(30, temperature, top_p, sampled, drafter=drafter, verifier=verifier,
                            draft_tokens=None if drafter == "none" else 4)  # fmt: skip
            monitor, _ = monitored(model, before)
            steering = Steering(constraints=(Together([monitor]),))
            drafting = Drafting(DraftMemory(), model, [1])
            made = generate(model, [0, 1], decode, steering=steering, drafting=drafting)
            texts.add(tuple(made.token_ids))
            assert is_bound(text_of(model, made), before)
        assert len(texts) == 1


def test_without_it_words_are_anything() -> None:
    """Negative control."""
    n_free = 0
    for seed in range(30):
        model = spelled_model([*(bytes([b]) for b in b"ab."), *FUSED], seed=seed, sharpness=0.5)
        made = generate(model, [0], Decode(30, 1.0, seed=seed))
        n_free += not is_bound(text_of(model, made))
    assert n_free > 10


def test_a_check_of_the_last_character_alone_is_escaped(monkeypatch) -> None:
    """Negative control: without doubts a token such as ".bb" steps over the monitor."""
    monkeypatch.setattr(SuggestingMonitor, "doubts", lambda self, state: None)
    n_free = 0
    for seed in range(30):
        model = spelled_model([*(bytes([b]) for b in b"ab."), *FUSED], seed=seed, sharpness=0.5)
        monitor, _ = monitored(model)
        steering = Steering(constraints=(monitor, Ban(model.vocabulary_size, len(FUSED) + 3)))
        made = generate(model, [0], Decode(30, 1.0, seed=seed), steering=steering)
        n_free += not is_bound(text_of(model, made))
    assert n_free > 10


@pytest.mark.slow
@given(
    tokens_over(ALPHABET), st.lists(st.tuples(st.integers(0, 99), st.integers(0, 5)), max_size=15)
)
@settings(max_examples=20, deadline=None)
def test_after_any_rollbacks_all_is_as_in_a_replay(tokens, steps) -> None:
    model = spelled_model([*tokens, *FUSED], sharpness=0.3)
    track, kept = ConstraintTrack([monitored(model)[0]], [0]), list[int]()
    for choice, n_back in steps:
        scores = model.logits([choice])
        keep = track.settled(track.n_tokens, scores)
        legal = range(model.vocabulary_size) if keep is None else keep.nonzero()[:, 0].tolist()
        token = legal[choice % len(legal)]
        assert track.allows(token)
        track.push(token)
        kept.append(token)
        if n_back < 3:
            kept = kept[: max(0, len(kept) - n_back)]
            track.truncate(len(kept))
        replay = ConstraintTrack([monitored(model)[0]], [0])
        for again in kept:
            replay.push(again)
        for position in range(len(kept) + 1):
            ours, theirs = track.settled(position, scores), replay.settled(position, scores)
            assert (ours is None) == (theirs is None)
            assert ours is None or torch.equal(ours, theirs)


def test_doubts_are_settled_only_for_likely_tokens() -> None:
    model = spelled_model([b"a", b".", b".ab", b".bb", b".b"], seed=1)
    monitor, asked = monitored(model, "aa")
    track = ConstraintTrack([monitor], [0])
    # Nothing but ".ab", ".bb" and ".b" is doubtful; "aa." has the members ab and abb.
    scores = torch.tensor([0.0, 0.0, -20.0, -20.0, -20.0, 0.0])
    assert track.settled(0, scores).tolist() == [True, True, False, False, False, True]
    assert asked.asked == []
    likely = torch.tensor([0.0, 0.0, 1.0, 1.0, -20.0, 0.0])
    assert track.settled(0, likely).tolist() == [True, True, True, False, False, True]
    assert asked.asked == ["aa."]
    assert 0 < DOUBT_FLOOR < 0.01


@given(tokens_over(ALPHABET), st.integers(0, 10**6), st.sampled_from(["a", "ab", "b.a", "a."]))
@settings(max_examples=60, deadline=None)
def test_the_best_token_needs_fewer_answers(tokens, seed, before) -> None:
    model = spelled_model([*tokens, *FUSED])
    scores = torch.randn(model.vocabulary_size, generator=torch.Generator().manual_seed(seed))
    best, n_asked = [], []
    for best_only in (False, True):
        monitor, asked = monitored(model, before)
        track = ConstraintTrack([monitor], [0])
        keep = track.settled(0, scores.round(), best_only=best_only)
        assert keep is not None
        best.append(int(scores.round().masked_fill(~keep, -torch.inf).argmax()))
        n_asked.append(len(asked.asked))
    assert best[0] == best[1]
    assert n_asked[1] <= n_asked[0]
    monitor, asked = monitored(model, before)
    n_waited = len(asked.asked)
    found = ConstraintTrack([monitor], [0]).best(0, scores.round())
    assert found in (None, best[0])
    if found is None:
        # Only a doubt may leave it open.
        keep = monitor.keep(monitor.start([0]))
        likely = scores.round() if keep is None else scores.round().masked_fill(~keep, -torch.inf)
        assert bool(monitor.doubts(monitor.start([0]))[int(likely.argmax())])
    assert len(asked.asked) - n_waited <= before.endswith(".")


@given(tokens_over(ALPHABET), st.integers(0, 10**6), st.sampled_from(["", "a.", "b.a"]))
@settings(max_examples=15, deadline=None)
def test_the_quick_choice_changes_no_text(tokens, seed, before) -> None:
    model = spelled_model([*tokens, *FUSED], seed=seed, order=2)
    texts = []
    for quick in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not quick:
                patch.setattr(ConstraintTrack, "best", lambda self, n_tokens, scores: None)
            steering = Steering(constraints=(Together([monitored(model, before)[0]]),))
            texts.append(generate(model, [0, 1], Decode(30), steering=steering).token_ids)
    assert texts[0] == texts[1]


def test_where_no_token_is_left_nothing_is_chosen() -> None:
    model = spelled_model([b"a", b"."], seed=1)
    bans = tuple(Ban(3, token_id) for token_id in range(3))
    assert ConstraintTrack(bans, [0]).best(0, torch.zeros(3)) is None
    steering = Steering(constraints=bans)
    with pytest.raises(ModelError):
        generate(model, [0], Decode(3), steering=steering)


def test_what_is_not_the_best_is_not_asked_about() -> None:
    model = spelled_model([b"a", b".", b".ab", b".bb", b".b"], seed=1)
    monitor, asked = monitored(model, "aa")
    track = ConstraintTrack([monitor], [0])
    scores = torch.tensor([3.0, 0.0, 1.0, 1.0, -20.0, 0.0])
    assert track.settled(0, scores, best_only=True).tolist() == [True, True, *[False] * 3, True]
    assert asked.asked == []
    # ".b" is none, ".ab" is one, and ".bb" is not needed any more.
    scores = torch.tensor([3.0, 0.0, 5.0, 4.0, 6.0, 0.0])
    assert track.settled(0, scores, best_only=True).tolist() == [
        True,
        True,
        True,
        *[False] * 2,
        True,
    ]
    assert asked.asked == ["aa."]


def test_suggestions_are_asked_for_once_a_text() -> None:
    model = spelled_model([b"a", b".", b"b", b".a"], seed=2, sharpness=0.2)
    monitor, asked = monitored(model)
    decode = Decode(60, 1.0, seed=5, drafter="recycle", draft_tokens=5)
    generate(model, [0], decode, steering=Steering(constraints=(monitor, Ban(5, 4))))
    assert len(asked.asked) > 5
    assert len(set(asked.asked)) == len(asked.asked)


def test_what_is_reported() -> None:
    model = spelled_model([b"a", b"b", b".", b" "], seed=2, sharpness=0.3)
    monitor, _ = monitored(model)
    together = Together([monitor])
    steering = Steering(constraints=(together, Ban(5, 4)))
    made = generate(model, [0], Decode(50, 1.0, seed=1), steering=steering)
    text = text_of(model, made)[:-1]
    n_held = sum(
        bool(AfterPoint().suggest(text[: at.end()])) for at in re.finditer(r"(?<=[a-z])\.", text)
    )
    assert n_held > 2
    assert together.n_suggested(len(made.token_ids)) == n_held
    assert together.n_masked(len(made.token_ids)) >= n_held
    assert together.n_suggested(0) == 0


@pytest.mark.parametrize("known", [frozenset({"x"}), frozenset({"", "é"})])
def test_a_dead_set_leaves_the_model_free(known) -> None:
    """No token can go on with a suggestion: no NaN, and no error."""
    model = spelled_model([b"a", b"."], seed=1)
    monitor, asked = monitored(model, "a.")
    asked.suggest = lambda text: known
    steering = Steering(constraints=(Together([monitor]), Ban(3, 2)))
    made = generate(model, [0], Decode(10), steering=steering)
    assert len(made.token_ids) == 10
