"""The loop against `transformers.generate` and exact distributions; every way of ending."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexes.errors import DeadlineExceeded, InvalidInput
from rag.answer import Decode
from rag.generate import prefill
from rag.generate.distribution import Steering
from rag.generate.loop import generate
from rag.generate.torch_model import TorchModel

PROMPTS = st.lists(st.integers(0, 257), min_size=1, max_size=30)


def transformers_greedy(model: TorchModel, prompt: list[int], max_tokens: int) -> list[int]:
    output = model._module.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=max_tokens,
        pad_token_id=0,
    )
    return [int(id_) for id_ in output[0, len(prompt) :]]


@given(PROMPTS, st.integers(1, 12))
@settings(max_examples=12, deadline=None)
def test_greedy_equals_transformers(tiny: TorchModel, prompt: list[int], max_tokens: int) -> None:
    ours = generate(tiny, prompt, Decode(max_tokens=max_tokens))
    assert ours.token_ids == transformers_greedy(tiny, prompt, max_tokens)
    assert ours.finish_reason == ("stop" if ours.token_ids[-1] == 257 else "length")
    assert (ours.prompt_tokens, ours.completion_tokens) == (len(prompt), len(ours.token_ids))


@pytest.mark.slow
@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "Name three primary colours.",
        "Write one sentence about the sea.",
    ],
)
def test_greedy_equals_transformers_on_the_real_model(smollm2: TorchModel, question: str) -> None:
    prompt = smollm2.tokenizer.chat([("system", "Be brief."), ("user", question)])
    pieces: list[str] = []
    ours = generate(smollm2, prompt, Decode(max_tokens=24), on_text=pieces.append)
    assert ours.token_ids == transformers_greedy(smollm2, prompt, 24)
    assert "".join(pieces) == ours.text == smollm2.tokenizer.decode(ours.token_ids)
    assert ours.first_token_ms is not None
    assert ours.first_token_ms > 0
    assert ours.tokens_per_s is not None


def test_a_prompt_in_pieces_is_the_same_prompt(
    tiny: TorchModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = list(range(40))
    whole = generate(tiny, prompt, Decode(max_tokens=12))
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 7)
    assert generate(tiny, prompt, Decode(max_tokens=12)).token_ids == whole.token_ids


def next_distribution(
    model: TorchModel, prefix: list[int], decode: Decode, allowed: Sequence[int]
) -> dict[int, float]:
    """p(next | prefix) over `allowed`, by a fresh forward and plain Python."""
    with torch.inference_mode():
        logits = model._module(torch.tensor([prefix]), use_cache=False).logits[0, -1].double()
    p = (logits[list(allowed)] / decode.temperature).softmax(0).tolist()
    ranked = sorted(zip(p, allowed, strict=True), reverse=True)
    kept: dict[int, float] = {}
    for mass, token in ranked:
        if sum(kept.values()) >= decode.top_p:
            break
        kept[token] = mass
    return {token: mass / sum(kept.values()) for token, mass in kept.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "decode",
    [
        Decode(max_tokens=2, temperature=1.0),
        Decode(max_tokens=2, temperature=1.4, top_p=0.8),
        Decode(max_tokens=2, temperature=0.6, top_p=0.95),
    ],
)
def test_sampled_pairs_follow_the_exact_distribution(tiny: TorchModel, decode: Decode) -> None:
    from scipy.stats import chisquare

    # A mask leaves five tokens: few enough to enumerate all pairs.
    allowed = [10, 60, 110, 160, 210]
    forbidden = torch.ones(258, dtype=torch.bool)
    forbidden[allowed] = False

    def mask(scores: torch.Tensor, prefix: Sequence[int], draft: Sequence[int]) -> torch.Tensor:
        return scores.masked_fill(forbidden, float("-inf"))

    prompt = [3, 1, 4]
    first = next_distribution(tiny, prompt, decode, allowed)
    exact = {
        (a, b): p_a * p_b
        for a, p_a in first.items()
        for b, p_b in next_distribution(tiny, [*prompt, a], decode, allowed).items()
    }
    n_samples = 500
    counts = Counter(
        tuple(
            generate(
                tiny,
                prompt,
                Decode(decode.max_tokens, decode.temperature, decode.top_p, seed=seed),
                steering=Steering(contrast=mask),
            ).token_ids
        )
        for seed in range(n_samples)
    )
    assert set(counts) <= set(exact)
    observed, expected = merge_rare(counts, exact, n_samples)
    assert len(expected) > 2
    assert chisquare(observed, expected).pvalue > 1e-3
    flat = [sum(observed) / len(observed)] * len(observed)
    assert chisquare(observed, flat).pvalue < 1e-3


def merge_rare(
    counts: Counter[tuple[int, ...]], exact: dict[tuple[int, int], float], n_samples: int
) -> tuple[list[float], list[float]]:
    """Observed and expected counts; cells that expect under five are put together."""
    frequent = [cell for cell, p in exact.items() if p * n_samples >= 5]
    observed = [float(counts[cell]) for cell in frequent]
    expected = [exact[cell] * n_samples for cell in frequent]
    rest = n_samples - sum(expected)
    if rest > 5:
        observed.append(n_samples - sum(observed))
        expected.append(rest)
    scale = sum(observed) / sum(expected)
    return observed, [value * scale for value in expected]


def test_a_seed_repeats_and_another_differs(tiny: TorchModel) -> None:
    def sample(seed: int) -> list[int]:
        return generate(
            tiny, [1, 2, 3], Decode(max_tokens=20, temperature=1.5, seed=seed)
        ).token_ids

    assert sample(5) == sample(5)
    assert len({tuple(sample(seed)) for seed in range(6)}) > 1


def test_requests_in_threads_do_not_disturb_each_other(tiny: TorchModel) -> None:
    prompts = [[n, n + 1, n + 2] for n in range(8)]
    decode = Decode(max_tokens=10, temperature=0.9, seed=2)
    alone = [generate(tiny, prompt, decode).token_ids for prompt in prompts]
    together: dict[int, list[int]] = {}

    def work(number: int) -> None:
        together[number] = generate(tiny, prompts[number], decode).token_ids

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[n] for n in range(len(prompts))] == alone


@pytest.mark.slow
@given(PROMPTS, st.lists(st.text(min_size=1, max_size=3), max_size=3), st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
@example([1], ["\n"], 0)
def test_streamed_text_is_the_text_and_stops_before_stop_strings(
    tiny: TorchModel, prompt: list[int], stops: list[str], seed: int
) -> None:
    pieces: list[str] = []
    decode = Decode(max_tokens=15, temperature=1.5, seed=seed)
    free = generate(tiny, prompt, decode)
    # A stop string that will really come: two characters of what is written anyway.
    middle = free.text[len(free.text) // 2 :][:2]
    stops = [*stops, middle] if middle else stops
    decode = Decode(max_tokens=15, temperature=1.5, seed=seed, stop=stops)
    stopped = generate(tiny, prompt, decode, on_text=pieces.append)
    assert "".join(pieces) == stopped.text
    assert all(pieces)
    assert not any(stop in stopped.text for stop in stops)
    assert free.text.startswith(stopped.text)
    assert free.token_ids[: len(stopped.token_ids)] == stopped.token_ids
    if middle:
        assert stopped.finish_reason == "stop"
        assert len(stopped.text) <= free.text.index(middle)


def test_a_prompt_that_just_fits_gets_one_token(tiny: TorchModel) -> None:
    ours = generate(tiny, [1] * 64, Decode(max_tokens=10))
    assert ours.completion_tokens == 1
    assert ours.finish_reason == "length"
    assert ours.tokens_per_s is None


def test_the_end_of_the_context_ends_the_text(tiny: TorchModel) -> None:
    def no_eos(scores: torch.Tensor, prefix: Sequence[int], draft: Sequence[int]) -> torch.Tensor:
        return scores.index_fill(1, torch.tensor([257]), float("-inf"))

    ours = generate(tiny, [1] * 60, Decode(max_tokens=100), steering=Steering(no_eos))
    assert (ours.completion_tokens, ours.finish_reason) == (5, "length")


@pytest.mark.parametrize("prompt", [[], [1] * 65])
def test_prompts_that_cannot_be_fed(tiny: TorchModel, prompt: list[int]) -> None:
    with pytest.raises(InvalidInput):
        generate(tiny, prompt, Decode())


def test_cancelling_before_the_prompt(tiny: TorchModel) -> None:
    cancel = threading.Event()
    cancel.set()
    ours = generate(tiny, [1, 2], Decode(), cancel=cancel)
    assert (ours.finish_reason, ours.token_ids, ours.first_token_ms) == ("cancelled", [], None)


def test_cancelling_takes_one_step(tiny: TorchModel) -> None:
    cancel = threading.Event()
    steps = itertools.count(1)

    def after_three(scores: torch.Tensor, prefix: Sequence[int], draft: object) -> torch.Tensor:
        if next(steps) == 3:
            cancel.set()
        return scores.index_fill(1, torch.tensor([257]), float("-inf"))

    steering = Steering(after_three)
    ours = generate(tiny, [1, 2], Decode(max_tokens=40), steering=steering, cancel=cancel)
    assert (ours.finish_reason, ours.completion_tokens) == ("cancelled", 3)


def test_a_deadline_in_the_past(tiny: TorchModel) -> None:
    with pytest.raises(DeadlineExceeded):
        generate(tiny, [1, 2], Decode(), deadline=time.monotonic() - 1)


def test_a_deadline_on_the_way(tiny: TorchModel) -> None:
    def slow(scores: torch.Tensor, prefix: Sequence[int], draft: Sequence[int]) -> torch.Tensor:
        time.sleep(0.05)
        return scores.index_fill(1, torch.tensor([257]), float("-inf"))

    shown: list[str] = []
    with pytest.raises(DeadlineExceeded):
        generate(
            tiny,
            [1, 2],
            Decode(max_tokens=60),
            steering=Steering(slow),
            deadline=time.monotonic() + 0.3,
            on_text=shown.append,
        )
    assert len(shown) < 60
