"""Contrast, masks, doubts and transfer together follow the promised distribution exactly.

Every path of random choices of a toy model is taken, as in `test_verifier`, whose exact sums are
used here with a real null branch and a real monitor over text. The controls must be seen.
"""

from __future__ import annotations

import math

import pytest
import torch
from spelled_toys import spelled_model
from test_verifier import Case, Texts, distance, exact_texts, rapid, softmax
from toy_models import ToyModel

from rag.answer import Decode
from rag.generate.contrast import ContextAware
from rag.generate.distribution import Steering
from rag.generate.faithful import Faithful
from rag.generate.monitors.suggesting import SuggestingMonitor
from rag.generate.monitors.together import Together
from rag.generate.monitors.vocabulary import vocabulary_of
from rag.generate.null_branch import NullBranch
from rag.generate.prefill import Watch

TOKENS = [b"a", b".", b".b"]
SPELLED = ["a", ".", ".b", ""]
"""The same, and a control token, which is legal where the text may end."""

NULL_PROMPT = [0]
ALPHA = 0.7
LENGTH = 4


class AfterPoint:
    """After a point comes the word "a", but for one at the beginning."""

    name = "after-point"
    word = b"ab"

    def triggers(self, text: str) -> bytes:
        return b"."

    def pre(self, text: str) -> bool:
        return len(text) > 2

    def suggest(self, text: str) -> frozenset[str]:
        return frozenset({"a"})


def toys(monkeypatch: pytest.MonkeyPatch) -> tuple[ToyModel, ToyModel]:
    """The models of `test_verifier` with spelled tokens."""
    target = spelled_model(TOKENS, seed=1, sharpness=1.2)
    drafter = spelled_model(TOKENS, seed=1, noise=0.7, sharpness=1.2)
    for one in (target, drafter):
        one.eos_ids = frozenset()
    monkeypatch.setattr("test_verifier.TARGET", target)
    monkeypatch.setattr("test_verifier.DRAFTER", drafter)
    return target, drafter


def steering_of(target: object) -> Steering:
    never = Watch(None, None, lambda: 0.0)
    null = NullBranch(target, NULL_PROMPT, never)
    monitor = SuggestingMonitor(AfterPoint(), vocabulary_of(target))
    contrast = ContextAware(Faithful("adacad", floor=0.1, cap=ALPHA), null)
    return Steering(contrast, (Together([monitor]),))


def legal_after(text: str, token: int) -> bool:
    """By the monitor's own words: after a point "a", and after that no letter."""
    for ch in SPELLED[token]:
        point = text.rfind(".")
        if point >= 2 and ch != ("a" if text.endswith(".") else "."):
            return False
        text += ch
    return bool(SPELLED[token]) or not (len(text) > 2 and text.endswith("."))


def wanted_texts(target, drafter, case: Case, prompt: list[int], short: list[int]) -> Texts:
    texts: Texts = {(): 1.0}
    for _ in range(case.decode.max_tokens):
        grown: Texts = {}
        for text, mass in texts.items():
            for token, p in enumerate(wanted_next(target, drafter, case, prompt, short, text)):
                if p > 0:
                    grown[(*text, token)] = grown.get((*text, token), 0.0) + mass * p
        texts = grown
    return texts


def wanted_next(target, drafter, case, prompt, short, generated) -> list[float]:
    z = target.logits([*prompt, *generated]).tolist()
    z0 = target.logits([*NULL_PROMPT, *generated]).tolist()
    y = drafter.logits([*short, *generated]).tolist()
    p, p0 = softmax(z), softmax(z0)
    m = [(a + b) / 2 for a, b in zip(p, p0, strict=True)]
    alpha = sum(
        a * math.log(a / c) + b * math.log(b / c) for a, b, c in zip(p, p0, m, strict=True)
    ) / 2  # fmt: skip
    alpha = min(max(alpha, 0.1), ALPHA)
    text = "".join(SPELLED[t] for t in generated)
    scores = [(1 + alpha) * math.log(a) - alpha * math.log(b) for a, b in zip(p, p0, strict=True)]
    legal = [legal_after(text, token) for token in range(len(z))]
    scores = [s if keep else -math.inf for s, keep in zip(scores, legal, strict=True)]
    y = [s if keep else -math.inf for s, keep in zip(y, legal, strict=True)]
    t, q = softmax(scores), softmax(y)
    pushed = [
        s + case.eta * (b - a) * (b >= 0.1 * max(q)) for s, a, b in zip(scores, t, q, strict=True)
    ]
    return softmax(pushed)


CASES = {
    "plain": Case(Decode(max_tokens=LENGTH, temperature=1.0)),
    "lossless": Case(rapid(verifier="lossless")),
    "exact": Case(rapid(eta=5.0), eta=5.0),
    "recycle": Case(rapid(drafter="recycle")),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n in ("exact", "lossless") else [])
        for n in CASES
    ],
)
def test_every_path_together_is_the_promised_distribution(name, monkeypatch) -> None:
    from test_verifier import PROMPT, SHORT_PROMPT

    target, drafter = toys(monkeypatch)
    case = CASES[name]
    texts = exact_texts(case, steering_of(target), monkeypatch)
    wanted = wanted_texts(target, drafter, case, PROMPT, SHORT_PROMPT)
    assert sum(texts.values()) == pytest.approx(1, abs=1e-5)
    assert distance(texts, wanted) < 1e-4
    # The monitor forbids something, or this would show nothing.
    free = exact_texts(case, Steering(steering_of(target).contrast), monkeypatch)
    assert distance(texts, free) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["no null branch", "no doubts", "stale null branch"])
def test_a_broken_rule_is_seen(bug: str, monkeypatch) -> None:
    from test_verifier import PROMPT, SHORT_PROMPT

    target, drafter = toys(monkeypatch)
    steering = steering_of(target)
    if bug == "no null branch":
        monkeypatch.setattr(
            ContextAware,
            "__call__",
            lambda self, logits, prefix, draft: logits.log_softmax(-1).mul(1.3),
        )
    elif bug == "no doubts":
        monkeypatch.setattr(Together, "doubts", lambda self, state: None)
    else:
        null = torch.zeros(1, len(TOKENS) + 1)
        monkeypatch.setattr(NullBranch, "rows", lambda self, text, n: null.expand(n, -1))
    texts = exact_texts(CASES["lossless"], steering, monkeypatch)
    wanted = wanted_texts(target, drafter, CASES["lossless"], PROMPT, SHORT_PROMPT)
    assert distance(texts, wanted) > 0.02
