"""Context-aware decoding: the formulas, the second branch, and that drafts change nothing."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from toy_models import Ban, NoRepeat, ToyModel

from indexes.errors import Cancelled, InvalidInput
from rag.answer import Decode, DrafterName
from rag.generate import contrast
from rag.generate.contrast import ContextAware, EvidenceBonus, contrasted, jensen_shannon
from rag.generate.distribution import Steering
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.faithful import Faithful, parse_faithful
from rag.generate.loop import generate
from rag.generate.null_branch import NullBranch
from rag.generate.prefill import PREFILL_TOKENS, Watch
from rag.generate.prefix_cache import PrefixCache
from rag.generate.shown import Shown
from rag.generate.steering import Opened, open_steering
from rag.generate.torch_model import TorchModel

N_TOKENS = 12
EOS = 11
NULL_PROMPT = [4, 2]
DRAFTERS: list[DrafterName] = ["lookup", "suffix", "recycle", "auto", "rapid"]
RULES = ["cad:0.5", "cad:2:spare", "adacad", "adacad:floor=0.3:cap=0.4:spare", "cfb:3"]
QUESTION = "DG ih"
ASKED = {3, 6, 7, 8}
ROWS = st.integers(1, 6)


def never() -> Watch:
    return Watch(None, None, lambda: 0.0)


def softmax(row: Sequence[float]) -> list[float]:
    weights = [math.exp(value - max(row)) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def divergence(p: Sequence[float], q: Sequence[float]) -> float:
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    half = math.fsum(a * math.log(a / c) for a, c in zip(p, m, strict=True) if a > 0)
    return (half + math.fsum(b * math.log(b / c) for b, c in zip(q, m, strict=True) if b > 0)) / 2


def random_rows(n_rows: int, n_tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.randn(2, n_rows, n_tokens, generator=torch.Generator().manual_seed(seed)).double()
    return made[0] * 3, made[1] * 3


@pytest.mark.slow
@given(ROWS, st.integers(2, 30), st.integers(0, 10**6), st.floats(0, 5), st.floats(-50, 50))
def test_contrast_is_the_papers_product(n_rows, n_tokens, seed, alpha, shift) -> None:
    z, z0 = random_rows(n_rows, n_tokens, seed)
    ours = contrasted(z, z0 + shift, torch.full((n_rows,), alpha, dtype=torch.float64)).softmax(-1)
    for row in range(n_rows):
        p, p0 = softmax(z[row].tolist()), softmax(z0[row].tolist())
        weights = [a * (a / b) ** alpha for a, b in zip(p, p0, strict=True)]
        wanted = [weight / math.fsum(weights) for weight in weights]
        assert ours[row].tolist() == pytest.approx(wanted, abs=1e-9)


@given(ROWS, st.integers(2, 30), st.integers(0, 10**6))
def test_alpha_zero_is_the_model_itself(n_rows, n_tokens, seed) -> None:
    z, z0 = random_rows(n_rows, n_tokens, seed)
    ours = contrasted(z, z0, torch.zeros(n_rows).double())
    assert (ours - z.log_softmax(-1)).abs().max() < 1e-12


def test_what_is_forbidden_stays_so_and_is_no_nan() -> None:
    z, z0 = torch.tensor([[1.0, -math.inf, 0.0]]), torch.tensor([[0.0, -math.inf, 2.0]])
    ours = contrasted(z, z0, torch.tensor([0.5]))[0]
    assert ours[1] == -math.inf
    assert ours[[0, 2]].isfinite().all()
    assert jensen_shannon(z, z0).isfinite().all()


@given(ROWS, st.integers(2, 30), st.integers(0, 10**6))
def test_the_divergence_is_that_of_each_row(n_rows, n_tokens, seed) -> None:
    z, z0 = random_rows(n_rows, n_tokens, seed)
    ours = jensen_shannon(z, z0).tolist()
    wanted = [
        divergence(softmax(one), softmax(other))
        for one, other in zip(z.tolist(), z0.tolist(), strict=True)
    ]
    assert ours == pytest.approx(wanted, abs=1e-9)
    assert jensen_shannon(z, z).abs().max() < 1e-9
    assert max(ours) <= math.log(2)


def test_opposites_diverge_by_ln_2() -> None:
    z = torch.tensor([[60.0, 0.0], [0.0, 0.0]])
    assert jensen_shannon(z, z.flip(1)).tolist() == pytest.approx([math.log(2), 0.0], abs=1e-6)


GROWTH = st.lists(
    st.tuples(st.integers(0, 8), st.lists(st.integers(0, N_TOKENS - 1), max_size=5)), max_size=8
)


@pytest.mark.slow
@given(GROWTH, st.integers(1, 40), st.booleans())
@settings(deadline=None)
def test_the_null_branch_is_a_fresh_forward(growth, n_prompt: int, cached: bool) -> None:
    """Whatever is cropped and fed, the rows are those of the whole text."""
    model = ToyModel(N_TOKENS, seed=3, order=3, context_length=200)
    prompt = [n % N_TOKENS for n in range(n_prompt)]
    null = NullBranch(model, prompt, never(), PrefixCache(model, 10**6) if cached else None)
    text: list[int] = []
    for n_back, added in growth:
        text = text[: max(0, len(text) - n_back)] + added
        for n_rows in {1, len(text) + 1, min(3, len(text) + 1)}:
            rows = null.rows(text, n_rows)
            fresh = model.open_context().forward([*prompt, *text])[-n_rows:]
            assert torch.equal(rows, fresh)


def test_the_null_branch_of_a_real_cache(tiny: TorchModel) -> None:
    prompt, text = tiny.tokenizer.encode("Where?"), tiny.tokenizer.encode("in the old town")
    prefixes = PrefixCache(tiny, 10**7)
    before = tiny.open_context()
    before.forward(prompt[:4])
    prefixes.keep(before, prompt[:4])
    null = NullBranch(tiny, prompt, never(), prefixes)
    for end, n_rows in [(0, 1), (1, 2), (6, 6), (3, 2), (4, 1), (9, 4), (15, 7)]:
        fresh = tiny.open_context().forward([*prompt, *text[:end]])[-n_rows:]
        assert (null.rows(text[:end], n_rows) - fresh).abs().max() < 1e-4


def test_a_long_null_prompt_is_fed_in_pieces() -> None:
    fed: list[int] = []
    n_prompt = 2 * PREFILL_TOKENS + 3
    model = ToyModel(N_TOKENS, context_length=5000, on_forward=fed.append)
    NullBranch(model, [1] * n_prompt, never()).rows([], 1)
    assert fed == [PREFILL_TOKENS, PREFILL_TOKENS, 2, 1]


def test_steps_cost_one_forward_of_what_is_new() -> None:
    fed: list[int] = []
    model = ToyModel(N_TOKENS, on_forward=fed.append)
    null = NullBranch(model, [1, 2, 3], never())
    null.rows([], 1)
    null.rows([5, 6, 7], 3)
    null.rows([5, 8], 1)
    null.rows([5, 8], 1)
    assert fed == [2, 1, 3, 1, 1]


def test_an_unwanted_forward_is_not_made() -> None:
    cancel = threading.Event()
    model = ToyModel(N_TOKENS)
    null = NullBranch(model, [1], Watch(cancel, None, lambda: 0.0))
    null.rows([], 1)
    cancel.set()
    with pytest.raises(Cancelled):
        null.rows([2], 1)


def toy(seed: int, order: int = 2, noise: float = 0.0) -> ToyModel:
    return ToyModel(
        N_TOKENS,
        seed=seed,
        order=order,
        noise=noise,
        context_length=60,
        eos_ids=frozenset({EOS}),
    )


class Different(ToyModel):
    """A toy whose rows also depend on how many tokens came before: the branches disagree."""

    def logits(self, prefix: Sequence[int]) -> torch.Tensor:
        return super().logits([len(prefix) % 5, *prefix[-2:]])


def opened(model: ToyModel, rule: str, n_prompt: int, **options: object) -> Opened:
    decode = Decode(faithful=rule, **options)  # type: ignore[arg-type]
    shown = Shown(["abc"], QUESTION, lambda: NULL_PROMPT)
    return open_steering(decode, model, shown, n_prompt)


def twin_scores(
    model: ToyModel, rule: str, prompt: Sequence[int], text: Sequence[int]
) -> list[float]:
    """One position, with no cache and in plain Python."""
    z, z0 = model.logits([*prompt, *text]), model.logits([*NULL_PROMPT, *text])
    faithful = parse_faithful(rule)
    if faithful.rule == "cfb":
        return [v + 3.0 * (t in {0, 1, 2, EOS}) for t, v in enumerate(z.tolist())]
    log_p = [math.log(v) for v in softmax(z.tolist())]
    log_p0 = [math.log(v) for v in softmax(z0.tolist())]
    alpha = faithful.alpha
    if faithful.rule == "adacad":
        alpha = divergence(softmax(z.tolist()), softmax(z0.tolist()))
        alpha = min(max(alpha, faithful.floor), faithful.cap)
    if faithful.spare and max(range(N_TOKENS), key=z0.tolist().__getitem__) in ASKED:
        alpha = 0.0
    return [(1 + alpha) * a - alpha * b for a, b in zip(log_p, log_p0, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])
@pytest.mark.parametrize("rule", RULES)
@given(
    st.lists(st.integers(0, N_TOKENS - 2), min_size=2, max_size=9),
    st.integers(0, 10**6),
    st.floats(0, 2),
)
@settings(max_examples=5, deadline=None)
@example([3, 4, 3, 4, 3], 5, 0.0)
def test_greedy_text_is_the_rule_applied_token_by_token(
    rule: str, masked: bool, prompt: list[int], seed: int, noise: float
) -> None:
    model = Different(N_TOKENS, seed=seed, order=3, context_length=60, eos_ids=frozenset({EOS}))
    constraints = (NoRepeat(N_TOKENS), Ban(N_TOKENS, 5)) if masked else ()
    text: list[int] = []
    while len(text) < 30 and EOS not in text:
        scores = twin_scores(model, rule, prompt, text)
        if masked:
            before = [*prompt, *text]
            for banned in {5, before[-1]} | ({0} if len(text) % 2 else set()):
                scores[banned] = -math.inf
        text.append(max(range(N_TOKENS), key=lambda t: scores[t]))
    for drafter in ["none", *DRAFTERS]:
        for gamma in (0, 1, 3, 10, None) if drafter != "none" else (None,):
            steered = opened(model, rule, len(prompt))
            verifier = "lossless" if drafter == "rapid" else None
            decode = Decode(30, drafter=drafter, draft_tokens=gamma, verifier=verifier)
            steering = Steering(steered.steering.contrast, constraints)
            drafting = Drafting(DraftMemory(), toy(seed, 3, noise), prompt[-2:])
            ours = generate(model, prompt, decode, steering=steering, drafting=drafting)
            assert ours.token_ids == text, (drafter, gamma)


@given(st.integers(0, 10**6), st.sampled_from(RULES))
@settings(max_examples=15, deadline=None)
def test_a_seed_gives_the_same_text_with_any_free_drafter(seed: int, rule: str) -> None:
    model = Different(N_TOKENS, seed=seed, order=3, eos_ids=frozenset({EOS}))
    texts = set()
    for drafter in ("none", "lookup", "suffix", "recycle", "auto"):
        decode = Decode(25, 0.9, 0.9, seed, drafter=drafter, draft_tokens=4)
        steering = opened(model, rule, 3).steering
        texts.add(tuple(generate(model, [1, 2, 1], decode, steering=steering).token_ids))
    assert len(texts) == 1


def test_what_is_reported_is_the_alpha_of_every_token() -> None:
    model = Different(N_TOKENS, seed=5, order=3, eos_ids=frozenset({EOS}))
    prompt = [1, 2, 1]
    for drafter in ("none", "lookup", "recycle"):
        steered = opened(model, "adacad", len(prompt))
        decode = Decode(20, faithful="adacad", drafter=drafter, draft_tokens=3, trace=True)
        made = generate(model, prompt, decode, steering=steered.steering)
        report = steered.report(_empty_report(), decode, len(made.token_ids))
        wanted = []
        for end in range(len(made.token_ids)):
            text = made.token_ids[:end]
            z, z0 = model.logits([*prompt, *text]), model.logits([*NULL_PROMPT, *text])
            wanted.append(divergence(softmax(z.tolist()), softmax(z0.tolist())))
        assert report.contrast_alphas == pytest.approx(wanted, abs=1e-5)
        assert report.contrast_alpha == pytest.approx(sum(wanted) / len(wanted), abs=1e-5)
        assert max(wanted) > 2 * min(wanted)
        assert steered.report(_empty_report(), Decode(), 5).contrast_alphas == []


def _empty_report():
    from rag.answer import DecodeReport

    return DecodeReport()


def never_cropped(self: NullBranch, generated: Sequence[int], n_rows: int) -> torch.Tensor:
    """The bug of a stateful processor under speculation: rejected tokens are never taken back."""
    if self._context is None:
        self._context = self._open(self._prompt_ids)
        self._context.forward(self._prompt_ids[:-1])
    fed = [*self._prompt_ids, *generated][-n_rows:]
    return self._context.forward(fed)


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["stale", "batch mean"])
def test_a_broken_branch_is_seen(bug: str, monkeypatch) -> None:
    """Negative controls: the same comparison fails when rows are not of their own prefix."""
    model = Different(N_TOKENS, seed=5, order=3, sharpness=3.0, context_length=400)
    prompt = [1, 2, 1, 2]
    if bug == "stale":
        monkeypatch.setattr(NullBranch, "rows", never_cropped)
    else:
        mean = contrast.jensen_shannon
        monkeypatch.setattr(
            contrast, "jensen_shannon", lambda z, z0: mean(z, z0).mean().expand(len(z))
        )
    differing = 0
    for seed in range(12):
        texts = []
        for drafter in ("none", "recycle"):
            decode = Decode(30, 1.5, seed=seed, drafter=drafter, draft_tokens=4)
            steering = opened(model, "adacad", len(prompt)).steering
            texts.append(generate(model, prompt, decode, steering=steering).token_ids)
        differing += texts[0] != texts[1]
    assert differing > 0


def test_cancelling_stops_before_the_second_branch() -> None:
    cancel = threading.Event()
    n_after = 0

    def seen(n_tokens: int) -> None:
        nonlocal n_after
        n_after += cancel.is_set()
        if len(counted) == 9:
            cancel.set()
        counted.append(n_tokens)

    counted: list[int] = []
    model = toy(3)
    model.on_forward = seen
    shown = Shown(["a"], "", lambda: NULL_PROMPT)
    steered = open_steering(Decode(faithful="cad"), model, shown, 4, cancel=cancel)
    banned = Steering(steered.steering.contrast, (Ban(N_TOKENS, EOS),))
    made = generate(model, [1, 2, 3, 4], Decode(40), steering=banned, cancel=cancel)
    assert made.finish_reason == "cancelled"
    assert n_after == 0
    assert 0 < len(made.token_ids) < 40


def test_the_bonus_goes_to_the_evidence_and_to_the_end() -> None:
    z = torch.zeros(2, 5)
    scores = EvidenceBonus(2.5, [1, 3], [4])(z, [0], [0])
    assert scores.tolist() == [[0, 2.5, 0, 2.5, 2.5]] * 2
    assert z.sum() == 0


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("off", Faithful()),
        ("cad", Faithful("cad", alpha=0.5)),
        ("cad:0.15", Faithful("cad", alpha=0.15)),
        ("cad:.3", Faithful("cad", alpha=0.3)),
        ("adacad", Faithful("adacad")),
        ("adacad:floor=0.3", Faithful("adacad", floor=0.3)),
        ("adacad:floor=0.1:cap=0.5", Faithful("adacad", floor=0.1, cap=0.5)),
        ("cad:spare", Faithful("cad", alpha=0.5, spare=True)),
        ("cad:0.15:spare", Faithful("cad", alpha=0.15, spare=True)),
        ("adacad:cap=0.5:spare", Faithful("adacad", cap=0.5, spare=True)),
        ("cfb", Faithful("cfb", bonus=5)),
        ("cfb:2", Faithful("cfb", bonus=2)),
    ],
)
def test_rules_are_spelled(text: str, rule: Faithful) -> None:
    assert parse_faithful(text) == rule


@pytest.mark.parametrize(
    "text",
    ["", "on", "cad:", "cad:x", "cad:-1", "cad:11", "cad:0.5\n", "adacad:cap=.1:floor=.2",
     "adacad:floor=0.5:cap=0.1", "cfb:99", "cad:nan", "cad:0.5:0.5",
     "off:spare", "cfb:spare", "cad:spare:0.5", "cad::spare", "cad:0.5:spare:spare", ":spare"],
)  # fmt: skip
def test_rules_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_faithful(text)


def test_there_must_be_evidence_to_be_faithful_to() -> None:
    with pytest.raises(InvalidInput, match="evidence"):
        open_steering(Decode(faithful="cad"), toy(1), Shown(["", " "], "", list), 9)
    with pytest.raises(InvalidInput, match="shorter"):
        open_steering(Decode(faithful="cad"), toy(1), Shown(["a"], "", lambda: [1] * 9), 8)
    assert open_steering(Decode(), toy(1), Shown([], "", list), 9).steering == Steering()


def test_context_aware_alone_counts_from_its_first_prompt() -> None:
    model = toy(2)
    aware = ContextAware(Faithful("cad", alpha=1.0), NullBranch(model, NULL_PROMPT, never()))
    z = torch.stack([model.logits([7, 8]), model.logits([7, 8, 1])])
    scores = aware(z, [7, 8], [1])
    wanted = 2 * z.log_softmax(-1) - torch.stack(
        [model.logits(NULL_PROMPT), model.logits([*NULL_PROMPT, 1])]
    ).log_softmax(-1)
    assert (scores - wanted).abs().max() < 1e-5
