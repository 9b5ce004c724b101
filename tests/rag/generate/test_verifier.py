"""What is emitted is exactly what is promised: algebra, every path of a toy model, chi-square.

A toy model of three tokens is decoded along every path of random choices, each with its
probability: the exact distribution of whole texts. The negative controls break one rule each and
must be seen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import NoRepeat, ToyModel, hashed_row, toy_contrast

from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.generate import loop, verifier
from rag.generate.distribution import Steering, transfer
from rag.generate.drafter import Allowance, Draft
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.loop import generate
from rag.generate.sampler import Sampler
from rag.generate.verifier import Rule, paper_residual, residual, rule_of

N_TOKENS = 3
LENGTH = 4
PROMPT = [1, 0, 2]
SHORT_PROMPT = [0, 2]
TARGET = ToyModel(N_TOKENS, seed=1, sharpness=1.5)
DRAFTER = ToyModel(N_TOKENS, seed=1, noise=0.7, sharpness=1.5)
STEERED = Steering(toy_contrast(0.5), (NoRepeat(N_TOKENS),), 0.05)

Texts = dict[tuple[int, ...], float]


class Case(NamedTuple):
    """How to decode, and eta and w of the distribution that should come out."""

    decode: Decode
    eta: float = 0.0
    weight: float = 1.0


def rapid(**options: object) -> Decode:
    fixed = {"max_tokens": LENGTH, "temperature": 1.0, "drafter": "rapid", "draft_tokens": 2}
    return Decode(**{**fixed, **options})  # type: ignore[arg-type]


CASES = {
    "plain": Case(Decode(max_tokens=LENGTH, temperature=1.0)),
    "lossless": Case(rapid(verifier="lossless")),
    "lossless, cold, top-p": Case(rapid(verifier="lossless", temperature=0.7, top_p=0.8)),
    "exact, eta 5": Case(rapid(eta=5.0), eta=5.0),
    "exact, eta 20, gamma 3": Case(rapid(eta=20.0, draft_tokens=3, max_tokens=5), eta=20.0),
    "exact without drafts": Case(rapid(eta=5.0, draft_tokens=0), eta=5.0),
    "exact, top-p": Case(rapid(eta=5.0, top_p=0.8, temperature=1.3), eta=5.0),
    "ensemble": Case(rapid(verifier="ensemble", target_weight=0.3), weight=0.3),
    "ensemble, top-p": Case(rapid(verifier="ensemble", target_weight=0.6, top_p=0.9), weight=0.6),
    "lookup": Case(rapid(drafter="lookup", draft_tokens=3)),
    "suffix": Case(rapid(drafter="suffix", draft_tokens=3, top_p=0.9)),
    "recycle": Case(rapid(drafter="recycle", draft_tokens=2)),
}
"""Free drafters and lossless verification emit p; the others what their eta and w make of it."""


def softmax(row: Sequence[float]) -> list[float]:
    weights = [math.exp(value - max(row)) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def nucleus(p: list[float], top_p: float) -> list[float]:
    kept: list[int] = []
    for token in sorted(range(len(p)), key=lambda t: (-p[t], t)):
        if math.fsum(p[t] for t in kept) >= top_p - 1e-12:
            break
        kept.append(token)
    total = math.fsum(p[t] for t in kept)
    return [p[t] / total if t in kept else 0.0 for t in range(len(p))]


def wanted_next(case: Case, generated: Sequence[int], steering: Steering) -> list[float]:
    """The distribution after `generated`, by the formulas in plain Python."""
    decode = case.decode
    text = [*PROMPT, *generated]
    scores = TARGET.logits(text).tolist()
    draft = DRAFTER.logits([*SHORT_PROMPT, *generated]).tolist()
    forbidden: set[int] = set()
    if steering.constraints:
        forbidden = {text[-1]} | ({0} if len(generated) % 2 else set())
    masked = [-math.inf if t in forbidden else v for t, v in enumerate(scores)]
    draft = [-math.inf if t in forbidden else v for t, v in enumerate(draft)]
    least = max(masked) + math.log(steering.plausibility or 1e-300)
    if steering.contrast is not None:
        logp = [v - math.log(math.fsum(map(math.exp, scores))) for v in scores]
        null = hashed_row(77, tuple(text[-2:]), N_TOKENS).log_softmax(-1).tolist()
        scores = [1.5 * a - 0.5 * b for a, b in zip(logp, null, strict=True)]
    scores = [-math.inf if masked[t] < least else v for t, v in enumerate(scores)]
    scores = [v / decode.temperature for v in scores]
    p, q = softmax(scores), softmax([v / decode.temperature for v in draft])
    if case.weight < 1:
        pairs = zip(nucleus(p, decode.top_p), nucleus(q, decode.top_p), strict=True)
        return [case.weight * a + (1 - case.weight) * b for a, b in pairs]
    pushed = [
        s + case.eta * (b - a) * (b >= 0.1 * max(q)) for s, a, b in zip(scores, p, q, strict=True)
    ]
    return nucleus(softmax(pushed), decode.top_p)


def wanted_texts(case: Case, steering: Steering) -> Texts:
    texts: Texts = {(): 1.0}
    for _ in range(case.decode.max_tokens):
        texts = {
            (*text, token): mass * p
            for text, mass in texts.items()
            for token, p in enumerate(wanted_next(case, text, steering))
            if p > 0
        }
    return texts


def decode_once(case: Case, steering: Steering, memory: DraftMemory | None = None) -> list[int]:
    drafting = Drafting(memory or DraftMemory(), DRAFTER, SHORT_PROMPT)
    return generate(TARGET, PROMPT, case.decode, steering=steering, drafting=drafting).token_ids


class Paths:
    """Walks the tree of random choices: each run takes the next path, with its probability."""

    def __init__(self) -> None:
        self._choices: list[tuple[int, list[float]]] = []
        self._at = 0

    def choose(self, weights: Sequence[float]) -> int:
        total = math.fsum(weights)
        if self._at == len(self._choices):
            p = [weight / total for weight in weights]
            first = next(n for n, mass in enumerate(p) if mass > 0)
            self._choices.append((first, p))
        chosen = self._choices[self._at][0]
        self._at += 1
        return chosen

    def runs(self, decode: Callable[[], list[int]]) -> Iterator[tuple[list[int], float]]:
        while True:
            self._at = 0
            token_ids = decode()
            yield token_ids, math.prod(p[n] for n, p in self._choices)
            while self._choices:
                n, p = self._choices.pop()
                later = [m for m in range(n + 1, len(p)) if p[m] > 0]
                if later:
                    self._choices.append((later[0], p))
                    break
            if not self._choices:
                return


def exact_texts(case: Case, steering: Steering, patch: pytest.MonkeyPatch) -> Texts:
    """What the real loop emits, over every outcome of every random choice."""
    paths = Paths()
    patch.setattr(Sampler, "draw", lambda self, weights: paths.choose(weights.tolist()))
    patch.setattr(
        Sampler,
        "accepts",
        lambda self, p: paths.choose([max(0.0, 1.0 - p), min(1.0, p)]) == 1,
    )
    texts: Texts = {}
    for token_ids, mass in paths.runs(lambda: decode_once(case, steering)):
        texts[tuple(token_ids)] = texts.get(tuple(token_ids), 0.0) + mass
    return texts


def distance(one: Texts, other: Texts) -> float:
    """Total variation."""
    return sum(abs(one.get(t, 0.0) - other.get(t, 0.0)) for t in one.keys() | other.keys()) / 2


@pytest.mark.parametrize("steering", [Steering(), STEERED], ids=["bare", "steered"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if "gamma 3" in n else []) for n in CASES],
)
def test_every_path_together_is_the_promised_distribution(name, steering, monkeypatch) -> None:
    case = CASES[name]
    texts = exact_texts(case, steering, monkeypatch)
    assert sum(texts.values()) == pytest.approx(1, abs=1e-5)
    assert distance(texts, wanted_texts(case, steering)) < 1e-5


@pytest.mark.slow
def test_the_papers_verifier_is_as_biased_as_derived(monkeypatch) -> None:
    case = Case(rapid(verifier="rapid_paper", eta=5.0), eta=5.0)
    texts = exact_texts(case, Steering(), monkeypatch)
    assert sum(texts.values()) == pytest.approx(1, abs=1e-5)
    assert distance(texts, wanted_texts(case, Steering())) > 0.1
    assert distance(texts, wanted_texts(case._replace(eta=0.0), Steering())) > 0.05


def drop_unsure(self: object, prefix: Sequence[int], allowance: Allowance) -> Draft:
    """The bug: a token that was drawn is thrown away because it was improbable."""
    draft = REAL_PROPOSE(self, prefix, allowance)
    for at, (token, row) in enumerate(zip(draft.token_ids, draft.scores or [], strict=True)):
        if row.softmax(-1)[token] < 0.3:
            self._sampler.track.truncate(len(prefix) - len(PROMPT) + at)
            return draft._replace(token_ids=draft.token_ids[:at], scores=draft.scores[:at])
    return draft


REAL_PROPOSE = loop.RagDrafter.propose


BUGS = {
    "resample from p": ("lossless", verifier, "residual", lambda target, drawn_from: target),
    "bonus from p": ("exact, eta 5", Rule, "needs_q", False),
    "drop, lossless": ("lossless", loop.RagDrafter, "propose", drop_unsure),
    "drop, exact": ("exact, eta 5", loop.RagDrafter, "propose", drop_unsure),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_broken_rule_is_seen(name, monkeypatch) -> None:
    case, owner, attribute, bug = BUGS[name]
    monkeypatch.setattr(owner, attribute, bug)
    texts = exact_texts(CASES[case], Steering(), monkeypatch)
    assert distance(texts, wanted_texts(CASES[case], Steering())) > 0.02


def test_a_mask_in_the_drafter_only_is_seen(monkeypatch) -> None:
    steering = Steering(constraints=(NoRepeat(N_TOKENS),))
    wanted = wanted_texts(CASES["lossless"], steering)
    # Now illegal tokens come out of the target, and the state has to take them.
    monkeypatch.setattr(NoRepeat, "advance", lambda self, state, token: (state[0] + 1, token))
    monkeypatch.setattr(Sampler, "shape", lambda self, logits, scores, keep: self._temper(scores))
    texts = exact_texts(CASES["lossless"], steering, monkeypatch)
    assert distance(texts, wanted) > 0.02
    assert not texts.keys() <= wanted.keys()


def test_no_mask_in_the_drafter_is_only_wasteful(monkeypatch) -> None:
    steering = Steering(constraints=(NoRepeat(N_TOKENS),))
    monkeypatch.setattr(NoRepeat, "advance", lambda self, state, token: (state[0] + 1, token))
    monkeypatch.setattr(Sampler, "draft_scores", lambda self, logits: self._temper(logits))
    texts = exact_texts(CASES["lossless"], steering, monkeypatch)
    assert distance(texts, wanted_texts(CASES["lossless"], steering)) < 1e-5


@given(st.integers(5, 1000), st.integers(0, 10**6), st.floats(0.1, 8))
@settings(max_examples=60, deadline=None)
def test_accepted_mass_and_residual_make_the_target(n_tokens, seed, spread) -> None:
    generator = torch.Generator().manual_seed(seed)
    t, q = torch.randn(2, n_tokens, generator=generator, dtype=torch.float64).mul(spread).softmax(1)
    accepted = q * (t / q).clamp(max=1)
    left = residual(t, q)
    emitted = accepted + (1 - accepted.sum()) * left / left.sum()
    assert (emitted - t).abs().max() < 1e-12
    # DIVERSED states its rule in p: the same as accepting by the mixture.
    w = 0.37
    v = w * t + (1 - w) * q
    stated = (1 - w + w * t / q).clamp(max=1)
    assert (stated - (v / q).clamp(max=1)).abs().max() < 1e-12
    # So what is left is the same but for its size, which sampling divides by.
    assert (residual(v, q) - w * residual(t, q)).abs().max() < 1e-15


@given(st.integers(5, 200), st.integers(0, 10**6), st.floats(0.5, 20))
@settings(max_examples=60, deadline=None)
def test_the_papers_distance_is_the_derived_one(n_tokens, seed, eta) -> None:
    z, y = torch.randn(
        2, n_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).mul(2)
    p, q, t = z.softmax(0), y.softmax(0), transfer(z, y, eta).softmax(0)
    accepted = q.minimum(t)
    left = paper_residual(p, t, q)
    assert (left - (p - t).maximum(p - q).clamp(min=0)).abs().max() < 1e-15
    emitted = accepted + (1 - accepted.sum()) * left / left.sum()
    distance = (emitted - p).abs().sum() / 2
    assert distance == pytest.approx(float((accepted - p).clamp(min=0).sum()), abs=1e-12)


def test_no_residual_falls_back_on_the_target() -> None:
    p = torch.tensor([0.25, 0.75])
    assert residual(p, p).tolist() == p.tolist()
    assert paper_residual(p, p, p).tolist() == p.tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"drafter": "lookup", "eta": 5.0},
        {"drafter": "auto", "verifier": "rapid_exact"},
        {"drafter": "none", "verifier": "ensemble"},
        {"drafter": "rapid", "verifier": "lossless", "eta": 1.0},
    ],
)
def test_options_that_contradict(options) -> None:
    with pytest.raises(InvalidInput):
        rule_of(Decode(**options))


def test_rules_by_default() -> None:
    assert rule_of(Decode()) == rule_of(Decode(drafter="suffix", eta=0.0)) == Rule()
    assert rule_of(Decode(drafter="rapid")) == Rule("rapid_exact", verifier.DEFAULT_ETA)
    assert rule_of(Decode(drafter="rapid", eta=0.0)) == Rule()
    paper = Decode(drafter="rapid", verifier="rapid_paper", temperature=1.0)
    assert rule_of(paper).name == "rapid_paper"
    assert rule_of(Decode(drafter="rapid", verifier="rapid_paper")).name == "rapid_exact"


N_SAMPLES = 10_000


def sampled_texts(case: Case, steering: Steering) -> Texts:
    """The same by drawing, with nothing replaced: the generator and its inversion too."""
    memory = DraftMemory()
    counts = Counter(
        tuple(decode_once(Case(msgspec.structs.replace(case.decode, seed=seed)), steering, memory))
        for seed in range(N_SAMPLES)
    )
    return {text: count / N_SAMPLES for text, count in counts.items()}


def chi_square(seen: Texts, wanted: Texts) -> float:
    """p-value; texts that expect under five of the samples are one cell."""
    from scipy.stats import chisquare

    cells = [t for t, mass in wanted.items() if mass * N_SAMPLES >= 5]
    observed = [seen.get(t, 0.0) for t in cells]
    expected = [wanted[t] for t in cells]
    if 1 - sum(expected) > 5 / N_SAMPLES:
        observed.append(1 - sum(observed))
        expected.append(1 - sum(expected))
    observed = [N_SAMPLES * mass for mass in observed]
    scale = sum(observed) / sum(expected)
    return float(chisquare(observed, [mass * scale for mass in expected]).pvalue)


def noise_floor(wanted: Texts) -> float:
    """Expected total variation of a sample of this size from its own distribution."""
    p = torch.tensor(list(wanted.values()), dtype=torch.float64)
    return float((2 * p * (1 - p) / (math.pi * N_SAMPLES)).sqrt().sum() / 2)


@pytest.mark.slow
def test_samples_follow_the_promised_distribution() -> None:
    case = CASES["exact, eta 5"]
    wanted = wanted_texts(case, STEERED)
    seen = sampled_texts(case, STEERED)
    assert seen.keys() <= wanted.keys()
    assert chi_square(seen, wanted) > 1e-3
    assert distance(seen, wanted) < 3 * noise_floor(wanted)
    assert chi_square(seen, wanted_texts(CASES["lossless"], STEERED)) < 1e-9


@pytest.mark.slow
def test_samples_of_a_broken_rule_do_not(monkeypatch) -> None:
    monkeypatch.setattr(verifier, "residual", lambda target, drawn_from: target)
    case = CASES["lossless"]
    seen, wanted = sampled_texts(case, Steering()), wanted_texts(case, Steering())
    assert chi_square(seen, wanted) < 1e-9
    assert distance(seen, wanted) > 3 * noise_floor(wanted)
