"""Speculation never changes what is written: every drafter and draft length against plain decoding.

Toy models repeat themselves more or less and their contexts raise on any misuse; the real model
answers real questions.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from toy_models import Ban, NoRepeat, ToyModel, toy_contrast

from indexes.errors import DeadlineExceeded, InvalidInput, ModelError
from rag.answer import Decode, DrafterName
from rag.generate import loop
from rag.generate.distribution import Steering
from rag.generate.drafter import Allowance, Draft
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.loop import Generation, generate
from rag.generate.prompt import build_prompt
from rag.generate.short_context import short_evidence
from rag.generate.torch_model import TorchModel
from rag.search import Hit

DATA = Path(__file__).parents[4] / "shared" / "data"
N_TOKENS = 12
EOS = 11
DRAFTERS: list[DrafterName] = ["lookup", "suffix", "recycle", "auto", "rapid"]
FREE = ["lookup", "suffix", "recycle", "auto"]

PROMPTS = st.lists(st.integers(0, N_TOKENS - 2), min_size=1, max_size=12)
ORDERS = st.integers(0, 3)
STEERINGS = {
    "bare": Steering(),
    "masked": Steering(constraints=(NoRepeat(N_TOKENS), Ban(N_TOKENS, 5))),
    "all": Steering(toy_contrast(0.5), (NoRepeat(N_TOKENS),), 0.1),
}


def toy(seed: int, order: int, noise: float = 0.0, context_length: int = 60) -> ToyModel:
    return ToyModel(
        N_TOKENS,
        seed=seed,
        order=order,
        noise=noise,
        context_length=context_length,
        eos_ids=frozenset({EOS}),
    )


def decoded(
    model: ToyModel,
    prompt: list[int],
    decode: Decode,
    steering: Steering,
    memory: DraftMemory,
    noise: float = 0.0,
) -> Generation:
    drafter = toy(*model._recipe[:2], noise=noise)
    drafting = Drafting(memory, drafter, prompt[-3:])
    return generate(model, prompt, decode, steering=steering, drafting=drafting)


@pytest.mark.slow
@pytest.mark.parametrize("steered", STEERINGS)
@pytest.mark.parametrize("drafter", DRAFTERS)
@given(PROMPTS, st.integers(0, 10**6), ORDERS, st.floats(0, 2), st.integers(1, 70))
@settings(max_examples=5, deadline=None)
@example([3, 4, 3, 4, 3], 5, 1, 0.0, 40)
@example([1, 2, 3], 1, 0, 0.5, 70)
def test_greedy_text_is_plain_greedy_text(
    drafter: DrafterName,
    steered: str,
    prompt: list[int],
    seed: int,
    order: int,
    noise: float,
    max_tokens: int,
) -> None:
    model, steering, memory = toy(seed, order), STEERINGS[steered], DraftMemory()
    plain = generate(model, prompt, Decode(max_tokens), steering=steering)
    for gamma in (*range(11), None):
        decode = Decode(
            max_tokens,
            drafter=drafter,
            draft_tokens=gamma,
            verifier="lossless",
        )
        ours = decoded(model, prompt, decode, steering, memory, noise)
        assert ours.token_ids == plain.token_ids
        assert (ours.finish_reason, ours.text) == (plain.finish_reason, plain.text)
        assert 0 <= ours.accepted <= ours.drafted <= 10 * ours.n_rounds
        assert ours.n_rounds <= max(0, len(plain.token_ids) - 1)
        if gamma is not None:
            assert ours.drafted <= gamma * ours.n_rounds
        memory.answers.add(plain.token_ids)


@pytest.mark.slow
@given(PROMPTS, st.integers(0, 10**6), ORDERS, st.floats(0, 2), st.integers(1, 40))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("verifier", ["rapid_exact", "rapid_paper", "ensemble"])
def test_greedy_rapid_is_its_rule_applied_token_by_token(
    verifier: str, prompt: list[int], seed: int, order: int, noise: float, max_tokens: int
) -> None:
    model, drafter = toy(seed, order), toy(seed, order, noise)
    eta, text, short = 5.0, list(prompt), list(prompt[-3:])
    # The rule of decoding at temperature 0, with no cache, no draft and no rollback.
    while len(text) - len(prompt) < max_tokens and text[-1] != EOS:
        z, y = model.logits(text), drafter.logits([*short, *text[len(prompt) :]])
        p, q = z.softmax(0), y.softmax(0)
        if verifier == "ensemble":
            best = 0.5 * p + 0.5 * q
        else:
            best = z + eta * torch.where(q >= 0.1 * q.max(), q - p, 0.0)
        text.append(int(best.argmax()))
    for gamma in range(11):
        decode = Decode(max_tokens, drafter="rapid", draft_tokens=gamma, verifier=verifier)
        if verifier != "ensemble":
            decode = Decode(
                max_tokens, drafter="rapid", draft_tokens=gamma, verifier=verifier, eta=eta
            )
        drafting = Drafting(DraftMemory(), drafter, short)
        ours = generate(model, prompt, decode, drafting=drafting)
        assert ours.token_ids == text[len(prompt) :][: len(ours.token_ids)]
        assert len(ours.token_ids) == min(len(text) - len(prompt), 60 - len(prompt) + 1)


@pytest.mark.slow
@pytest.mark.parametrize("steered", STEERINGS)
@pytest.mark.parametrize("drafter", FREE)
@given(PROMPTS, st.integers(0, 10**6), ORDERS, st.integers(0, 1000), st.floats(0.2, 2))
@settings(max_examples=6, deadline=None)
def test_a_seed_gives_the_same_text_with_any_free_drafter(
    drafter: DrafterName,
    steered: str,
    prompt: list[int],
    model_seed: int,
    order: int,
    seed: int,
    temperature: float,
) -> None:
    model, steering, memory = toy(model_seed, order), STEERINGS[steered], DraftMemory()
    sampled = {"temperature": temperature, "top_p": 0.9, "seed": seed}
    plain = generate(model, prompt, Decode(30, **sampled), steering=steering)
    for gamma in (0, 1, 4, 10, None):
        decode = Decode(30, drafter=drafter, draft_tokens=gamma, **sampled)
        ours = decoded(model, prompt, decode, steering, memory)
        assert ours.token_ids == plain.token_ids


def test_drafts_are_accepted_where_the_text_repeats_itself() -> None:
    model = toy(3, 1)
    steering = Steering(constraints=(Ban(N_TOKENS, EOS),))
    for drafter in DRAFTERS:
        decode = Decode(40, drafter=drafter, draft_tokens=6, verifier=None)
        ours = decoded(model, [1, 2], decode, steering, DraftMemory())
        assert ours.accepted > 20, drafter
        assert ours.n_rounds < 20


class WildDrafter:
    """Drafts any legal or illegal tokens, with EOS in the middle."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def propose(self, prefix: Sequence[int], allowance: Allowance) -> Draft:
        n_tokens = allowance.tokens(("wild", 0), 10)
        ids = torch.randint(0, N_TOKENS, (n_tokens,), generator=self._generator).tolist()
        return Draft(("wild", 0), ids)

    def observe(self, prefix: Sequence[int], draft: Sequence[int], logits: torch.Tensor) -> None:
        assert logits.shape == (len(draft) + 1, N_TOKENS)


@pytest.mark.parametrize("steered", STEERINGS)
@given(PROMPTS, st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([0.0, 1.0]))
@settings(max_examples=6, deadline=None)
def test_whatever_is_drafted(
    steered: str, prompt: list[int], model_seed: int, seed: int, temperature: float
) -> None:
    model, steering = toy(model_seed, 2), STEERINGS[steered]
    plain = generate(model, prompt, Decode(30, temperature), steering=steering)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "open_drafter", lambda *_: WildDrafter(seed))
        for gamma in (1, 5, 10):
            decode = Decode(30, temperature, drafter="lookup", draft_tokens=gamma)
            ours = generate(model, prompt, decode, steering=steering)
            assert ours.token_ids == plain.token_ids


@pytest.mark.parametrize("drafter", DRAFTERS)
@given(PROMPTS, st.integers(0, 10**6), st.text("abcdefghijk", min_size=1, max_size=3))
@settings(max_examples=6, deadline=None)
def test_stop_strings_inside_a_draft(
    drafter: DrafterName, prompt: list[int], seed: int, stop: str
) -> None:
    model = toy(seed, 1)
    plain_pieces: list[str] = []
    plain = generate(model, prompt, Decode(40, stop=[stop]), on_text=plain_pieces.append)
    pieces: list[str] = []
    decode = Decode(40, stop=[stop], drafter=drafter, draft_tokens=7, verifier="lossless")
    drafting = Drafting(DraftMemory(), toy(seed, 1), prompt)
    ours = generate(model, prompt, decode, drafting=drafting, on_text=pieces.append)
    assert (ours.token_ids, ours.text) == (plain.token_ids, plain.text)
    assert "".join(pieces) == ours.text
    # Text is streamed token by token, also where several are committed in one round.
    assert pieces == plain_pieces


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_the_end_of_the_context(drafter: DrafterName) -> None:
    model = toy(3, 1, context_length=20)
    steering = Steering(constraints=(Ban(N_TOKENS, EOS),))
    drafting = Drafting(DraftMemory(), model, [1, 2])
    for gamma in range(11):
        decode = Decode(100, drafter=drafter, draft_tokens=gamma, verifier="lossless")
        decode = decode if drafter == "rapid" else Decode(100, drafter=drafter, draft_tokens=gamma)
        ours = generate(model, [1, 2, 1, 2], decode, steering=steering, drafting=drafting)
        assert (ours.completion_tokens, ours.finish_reason) == (17, "length")


def test_the_end_of_the_drafters_context() -> None:
    model, short = toy(3, 1), toy(3, 1, context_length=12)
    steering = Steering(constraints=(Ban(N_TOKENS, EOS),))
    drafting = Drafting(DraftMemory(), short, [1, 2])
    lossless = Decode(30, drafter="rapid", draft_tokens=4, verifier="lossless")
    ours = generate(model, [1, 2], lossless, steering=steering, drafting=drafting)
    assert ours.completion_tokens == 30
    # A rule that needs q ends the text where q ends.
    exact = Decode(30, drafter="rapid", draft_tokens=4)
    ours = generate(model, [1, 2], exact, steering=steering, drafting=drafting)
    assert (ours.completion_tokens, ours.finish_reason) == (11, "length")
    with pytest.raises(InvalidInput, match="12"):
        generate(model, [1, 2], exact, drafting=Drafting(DraftMemory(), short, [1] * 13))


def test_rapid_needs_a_short_context() -> None:
    with pytest.raises(InvalidInput, match="short context"):
        generate(toy(1, 1), [1], Decode(drafter="rapid"))


def test_a_text_with_no_legal_token_is_a_model_error() -> None:
    dead_end = Steering(constraints=tuple(Ban(N_TOKENS, token) for token in range(N_TOKENS)))
    for drafter in ("none", "suffix"):
        with pytest.raises(ModelError):
            generate(toy(1, 1), [1, 1], Decode(drafter=drafter), steering=dead_end)


@pytest.mark.parametrize("who", ["target", "drafter"])
@pytest.mark.parametrize("verifier", ["lossless", "rapid_exact"])
@given(st.integers(0, 40))
@settings(max_examples=6, deadline=None)
def test_cancelling_takes_one_forward(verifier: str, who: str, after: int) -> None:
    cancel = threading.Event()
    n_after_cancel = n_forwards = 0

    def seen(n_tokens: int) -> None:
        nonlocal n_after_cancel, n_forwards
        n_after_cancel += cancel.is_set()
        n_forwards += 1
        if n_forwards == after + 1:
            cancel.set()

    model, drafter = toy(3, 1), toy(3, 1)
    (model if who == "target" else drafter).on_forward = seen
    steering = Steering(constraints=(Ban(N_TOKENS, EOS),))
    decode = Decode(40, drafter="rapid", draft_tokens=5, verifier=verifier)
    whole = generate(
        toy(3, 1),
        [1, 2],
        decode,
        steering=steering,
        drafting=Drafting(DraftMemory(), toy(3, 1), [2]),
    )
    drafting = Drafting(DraftMemory(), drafter, [2])
    ours = generate(model, [1, 2], decode, steering=steering, drafting=drafting, cancel=cancel)
    assert n_after_cancel == 0
    assert whole.token_ids[: len(ours.token_ids)] == ours.token_ids
    if cancel.is_set() and len(ours.token_ids) < 40:
        assert ours.finish_reason == "cancelled"


def test_a_deadline_while_drafting() -> None:
    times = iter(range(10**6))
    decode = Decode(40, drafter="rapid", draft_tokens=10)
    drafting = Drafting(DraftMemory(), toy(3, 1), [2])
    steering = Steering(constraints=(Ban(N_TOKENS, EOS),))
    with pytest.raises(DeadlineExceeded):
        generate(
            toy(3, 1),
            [1],
            decode,
            steering=steering,
            drafting=drafting,
            deadline=60,
            clock=lambda: float(next(times)),
        )


def test_requests_that_share_a_memory_do_not_disturb_each_other() -> None:
    memory, model = DraftMemory(), toy(4, 2)
    steering = Steering(constraints=(Ban(N_TOKENS, EOS),))
    prompts = [[n % 10, n % 7, n % 3] for n in range(12)]
    alone = [generate(model, p, Decode(40), steering=steering).token_ids for p in prompts]
    together: dict[int, list[int]] = {}

    def work(number: int) -> None:
        ours = generate(
            model,
            prompts[number],
            Decode(40, drafter="auto"),
            steering=steering,
            drafting=Drafting(memory),
        )
        memory.answers.add(ours.token_ids)
        together[number] = ours.token_ids

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[n] for n in range(len(prompts))] == alone


def real_prompts(model: TorchModel, n_prompts: int) -> list[tuple[list[int], list[int]]]:
    """(whole, short) prompts of real questions with the passages a search engine found."""
    path = DATA / "specdec" / "llma_rag.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"absent: {path}")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(next(lines)) for _ in range(n_prompts)]
    prompts = []
    for record in records:
        evidence = [
            Hit(id=str(n), rank=n + 1, score=1.0, scores={}, title="", text=text)
            for n, text in enumerate(record["docs"][:2])
        ]
        whole = build_prompt(model.tokenizer, record["query"], evidence, 350)
        short = build_prompt(
            model.tokenizer, record["query"], short_evidence(record["query"], evidence), 350
        )
        prompts.append((whole.token_ids, short.token_ids))
    return prompts


def gap_at(model: TorchModel, prompt: list[int], token_ids: list[int]) -> float:
    """How much better the best token is than the second, after `token_ids`."""
    logits = model.open_context().forward([*prompt, *token_ids], last_only=True)[-1]
    first, second = logits.topk(2).values.tolist()
    return first - second


@pytest.mark.slow
def test_the_real_model_writes_the_same_with_every_drafter(smollm2: TorchModel) -> None:
    memory = DraftMemory()
    n_tokens, accepted = 20, 0
    # The second thread gains little on single steps and loses much on a busy machine.
    torch.set_num_threads(1)
    for prompt, short in real_prompts(smollm2, 2):
        plain = generate(smollm2, prompt, Decode(n_tokens)).token_ids
        for drafter in DRAFTERS:
            decode = Decode(n_tokens, drafter=drafter, draft_tokens=5, verifier="lossless")
            if drafter != "rapid":
                decode = Decode(n_tokens, drafter=drafter, draft_tokens=5)
            drafting = Drafting(memory, prompt_ids=short)
            ours = generate(smollm2, prompt, decode, drafting=drafting)
            accepted += ours.accepted
            if ours.token_ids != plain:
                pairs = enumerate(zip(ours.token_ids, plain, strict=False))
                at = next(n for n, (one, other) in pairs if one != other)
                # Only a tie may fall to either side: rounding differs with the block's size.
                assert gap_at(smollm2, prompt, plain[:at]) < 1e-4
        memory.answers.add(plain)
    assert accepted > 20
