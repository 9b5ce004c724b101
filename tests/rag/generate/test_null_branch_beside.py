"""The null branch fed in one run with the main one: what it would be alone, to the last bit."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_decoders import N_TOKENS, save_tiny_decoder

from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.generate import null_branch
from rag.generate.batching import BatchedModel
from rag.generate.compiled_model import load_compiled_model
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.language_model import Context, Feed
from rag.generate.loop import generate
from rag.generate.null_branch import NullBranch
from rag.generate.onnx_model import load_onnx_model
from rag.generate.prefill import Watch
from rag.generate.shown import Shown
from rag.generate.steering import open_steering
from rag.generate.torch_model import load_torch_model
from rag.models.optimize import optimize
from rag.models.resolver import resolve

BACKENDS = ("fp32", "int4", "int8", "torch")
WAYS: list[dict[str, Any]] = [
    {"drafter": "none"},
    {"drafter": "lookup"},
    {"drafter": "suffix"},
    {"drafter": "recycle"},
    {"drafter": "auto"},
    {"drafter": "rapid", "verifier": "lossless"},
    {"drafter": "rapid", "verifier": "rapid_exact"},
    {"drafter": "rapid", "verifier": "rapid_paper"},
    {"drafter": "rapid", "verifier": "ensemble"},
]


class Counted:
    """A model that counts what is fed beside each other, and may be made to feed it wrongly."""

    def __init__(self, model: Any) -> None:
        self._model = BatchedModel(model)
        self.n_beside = 0
        self.spoil = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def forward_beside(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        self.n_beside += 1
        if self.spoil:
            main, null = feeds
            wrong = [(id_ + 1) % (N_TOKENS - 1) for id_ in null.token_ids]
            feeds = [main, null._replace(token_ids=wrong)]
        return self._model.forward_beside(feeds)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cache = tmp_path_factory.mktemp("cache")
    folder = save_tiny_decoder(tmp_path_factory.mktemp("llama"), "llama")
    resolved = resolve(str(folder), cache)
    made: dict[str, Any] = {
        precision: load_onnx_model(resolved, optimize(resolved, cache, precision), n_threads=1)
        for precision in ("fp32", "int4")
    }
    made["int8"] = load_compiled_model(resolved, optimize(resolved, cache, "int8"), n_threads=1)
    made["torch"] = load_torch_model(folder, name="tiny")
    yield made
    torch.set_num_threads(before)


def tokens(n_tokens: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(N_TOKENS - 1), k=n_tokens)


def written(
    model: Counted, decode: Decode, prompt: list[int], *, beside: bool
) -> tuple[list[int], list[float]]:
    """The text, and the alpha of every token of it: AdaCAD's shows each bit of both branches."""
    shown = Shown(["evidence"], "", lambda: prompt[-5:])
    opened = open_steering(decode, model, shown, len(prompt))
    steering = opened.steering
    assert steering.beside is not None
    if not beside:
        steering = msgspec.structs.replace(steering, beside=None)
    drafting = Drafting(DraftMemory(), None, prompt[-12:])
    ids = generate(model, prompt, decode, steering=steering, drafting=drafting).token_ids
    contrast: Any = steering.contrast
    return ids, contrast.alphas(len(ids))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(way.values()))
@pytest.mark.parametrize("backend", BACKENDS)
def test_texts_are_those_of_two_forwards(models: dict[str, Any], backend: str, way: Any) -> None:
    """Greedy and drawn, with every drafter and verifier, long and short drafts."""
    model = Counted(models[backend])
    for seed, (temperature, rule, n_drafted) in enumerate(
        [(0.0, "adacad", 3), (0.0, "cad:1", 7), (1.0, "adacad:floor=0.2", 5)]
    ):
        decode = Decode(24, temperature, seed=seed, faithful=rule, draft_tokens=n_drafted, **way)
        prompt = tokens(30, seed) + tokens(6, seed) * 2
        ids, alphas = written(model, decode, prompt, beside=False)
        assert model.n_beside == 0
        # Torch's last bits depend on how many tokens are fed, and drafts on how long they took.
        near = 1e-4 if backend == "torch" else 0.0
        wanted = ids, pytest.approx(alphas, abs=near, rel=0)
        assert written(model, decode, prompt, beside=True) == wanted
        assert model.n_beside > 0
        model.n_beside = 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_branch_that_is_fed_wrong_tokens_is_seen(models: dict[str, Any], backend: str) -> None:
    """Negative control of the test above."""
    model = Counted(models[backend])
    decode = Decode(24, faithful="adacad", drafter="none")
    prompt = tokens(30, seed=1)
    right = written(model, decode, prompt, beside=True)
    model.spoil = True
    wrong = written(model, decode, prompt, beside=True)
    assert wrong != right
    assert wrong[1][0] == right[1][0]


FEEDS = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 5)), min_size=1, max_size=6
)


@pytest.mark.parametrize("backend", ["fp32", "int4", "int8"])
@given(
    feeds=FEEDS, sizes=st.tuples(st.integers(1, 70), st.integers(1, 20)), seed=st.integers(0, 99)
)
@settings(max_examples=15, deadline=None)
def test_an_exact_run_changes_no_bit(
    models: dict[str, Any], backend: str, feeds: Any, sizes: tuple[int, int], seed: int
) -> None:
    model = models[backend]
    pairs = [[model.open_context() for _ in range(2)] for _ in range(2)]
    for contexts in pairs:
        for context, size in zip(contexts, sizes, strict=True):
            context.forward(tokens(size, seed))
    for number, (one, other, crop) in enumerate(feeds):
        fed = [tokens(n, seed + number) for n in (one, other)]
        together = model.forward_together(
            [Feed(context, ids, False) for context, ids in zip(pairs[0], fed, strict=True)],
            exact=True,
        )
        for context, ids, logits in zip(pairs[1], fed, together, strict=True):
            assert torch.equal(context.forward(ids), logits)
        for context in (*pairs[0], *pairs[1]):
            context.crop(max(0, context.position - crop))


def test_a_long_context_is_fed_by_itself(
    models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(null_branch, "BESIDE_TOKENS", 40)
    model = Counted(models["fp32"])
    decode = Decode(30, faithful="adacad", drafter="none")
    prompt = tokens(30, seed=1)
    alone = written(model, decode, prompt, beside=False)
    assert written(model, decode, prompt, beside=True) == alone
    assert model.n_beside == 40 - 30 + 1


def test_what_the_branch_lacks_is_fed_when_it_is_asked_for(models: dict[str, Any]) -> None:
    """A branch that nothing was asked of, or whose tokens are others, leaves the main one alone."""
    model = Counted(models["fp32"])
    prompt, text = tokens(9, seed=1), tokens(12, seed=2)
    null = NullBranch(model, prompt, Watch(None, None, lambda: 0.0))
    main: Context = model.open_context()
    main.forward(tokens(20, seed=3))

    def check(n_fed: int, end: int, *, beside: bool) -> None:
        """The last `n_fed` of the first `end` tokens are fed; both branches are as fresh."""
        n_before = model.n_beside
        logits = null.forward_with(main, text[end - n_fed : end], text[:end])
        assert (model.n_beside > n_before) == beside
        fresh = [model.open_context().forward([*p, *text[:end]]) for p in (tokens(20, 3), prompt)]
        torch.testing.assert_close(logits, fresh[0][-n_fed:], atol=1e-4, rtol=1e-4)
        rows = null.rows(text[:end], n_fed)
        torch.testing.assert_close(rows, fresh[1][-n_fed:], atol=1e-4, rtol=1e-4)

    check(2, 2, beside=False)
    check(1, 3, beside=True)
    check(4, 7, beside=True)
    main.crop(20 + 5)
    check(3, 8, beside=True)
    null.rows(text[:4], 1)
    check(2, 10, beside=False)
    # Fewer rows than were computed are computed again.
    check(2, 12, beside=True)
    fresh = model.open_context().forward([*prompt, *text])
    torch.testing.assert_close(null.rows(text, 1), fresh[-1:], atol=1e-4, rtol=1e-4)


def test_another_models_context_is_not_fed_beside(models: dict[str, Any]) -> None:
    model = BatchedModel(models["fp32"])
    feeds = [
        Feed(model.open_context(), [1], False),
        Feed(models["fp32"].open_context(), [1], False),
    ]
    with pytest.raises(InvalidInput, match="another"):
        model.forward_beside(feeds)
