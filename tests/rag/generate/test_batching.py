"""Requests that decode together get what they would get alone, and none can spoil another's."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_decoders import N_TOKENS, save_tiny_decoder
from toy_models import ToyModel

from indexes.errors import InvalidInput, ModelError
from rag.answer import Decode
from rag.generate.batching import BatchedModel
from rag.generate.compiled_model import CompiledModel, load_compiled_model
from rag.generate.language_model import Feed
from rag.generate.loop import generate
from rag.generate.onnx_cache import FIRST_CAPACITY
from rag.generate.onnx_model import SLOTS, OnnxModel, load_onnx_model
from rag.generate.torch_model import load_torch_model
from rag.models.optimize import optimize
from rag.models.resolver import resolve

KINDS = ("llama", "mistral")
PATIENCE_S = 30.0


class Models(msgspec.Struct, frozen=True):
    fp32: OnnxModel
    int4: OnnxModel
    int8: CompiledModel
    torch: Any


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Models]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cache = tmp_path_factory.mktemp("cache")
    made = {}
    for kind in KINDS:
        folder = save_tiny_decoder(tmp_path_factory.mktemp(kind), kind)
        resolved = resolve(str(folder), cache)
        fp32, int4, int8 = (optimize(resolved, cache, one) for one in ("fp32", "int4", "int8"))
        made[kind] = Models(
            load_onnx_model(resolved, fp32, n_threads=1),
            load_onnx_model(resolved, int4, n_threads=1),
            load_compiled_model(resolved, int8, n_threads=1),
            load_torch_model(folder, name="tiny"),
        )
    yield made
    torch.set_num_threads(before)


def tokens(n_tokens: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(N_TOKENS - 1), k=n_tokens)


TURN = st.dictionaries(
    st.integers(0, 3), st.tuples(st.integers(1, 12), st.integers(0, 5)), min_size=1, max_size=4
)


@pytest.mark.parametrize("kind", KINDS)
@given(turns=st.lists(TURN, min_size=1, max_size=8), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_together_equals_alone(
    models: dict[str, Models], kind: str, turns: list[dict[int, tuple[int, int]]], seed: int
) -> None:
    """Any sequences in any turn, each with any number of tokens, then cropped."""
    model = models[kind].fp32
    together = [model.open_context() for _ in range(4)]
    alone = [model.open_context() for _ in range(4)]
    draw = random.Random(seed)
    for turn in turns:
        feeds = [
            Feed(together[n], tokens(size, draw.randrange(1000)), draw.random() < 0.3)
            for n, (size, _) in turn.items()
        ]
        found = model.forward_together(feeds)
        for (n, (_, crop)), feed, logits in zip(turn.items(), feeds, found, strict=True):
            expected = alone[n].forward(feed.token_ids, last_only=feed.last_only)
            torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)
            for context in (together[n], alone[n]):
                context.crop(max(0, context.position - crop))
        assert [one.position for one in together] == [one.position for one in alone]


@pytest.mark.parametrize("precision", ["fp32", "int4", "int8"])
@pytest.mark.parametrize("kind", KINDS)
@given(sizes=st.lists(st.integers(1, 12), min_size=20, max_size=20), crop=st.integers(0, 30))
@settings(max_examples=10, deadline=None)
def test_pieces_and_crops_change_no_bit(
    models: dict[str, Models], kind: str, precision: str, sizes: list[int], crop: int
) -> None:
    """Alone, what was fed before and how is forgotten, also where activations are rounded."""
    model = getattr(models[kind], precision)
    token_ids = tokens(60, seed=1)
    expected = model.open_context().forward(token_ids)
    context = model.open_context()
    context.forward(tokens(crop + 5, seed=2))
    context.crop(0)
    for size in sizes:
        start = context.position
        if start < len(token_ids):
            logits = context.forward(token_ids[start : start + size])
            assert torch.equal(logits, expected[start : start + size])
    context.crop(max(0, context.position - crop))
    start = context.position
    if start < len(token_ids):
        assert torch.equal(context.forward(token_ids[start:]), expected[start:])


def test_slots_grow_and_keep_what_they_hold(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    texts = [tokens(2 * FIRST_CAPACITY, seed) for seed in range(3)]
    expected = [model.open_context().forward(text) for text in texts]
    contexts = [model.open_context() for _ in texts]
    for start in range(0, 2 * FIRST_CAPACITY, 64):
        feeds = [
            Feed(context, text[start : start + 64], False)
            for context, text in zip(contexts, texts, strict=True)
        ]
        for logits, rows in zip(model.forward_together(feeds), expected, strict=True):
            torch.testing.assert_close(logits, rows[start : start + 64], atol=1e-3, rtol=1e-4)


def test_up_to_the_end_of_the_context_together(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    end = model.context_length
    texts = [tokens(end, seed) for seed in range(2)]
    expected = [model.open_context().forward(text)[-3:] for text in texts]
    contexts = [model.open_context() for _ in texts]
    for context, text, left in zip(contexts, texts, (1, 3), strict=True):
        context.forward(text[: end - left])
    feeds = [Feed(contexts[0], texts[0][-1:], False), Feed(contexts[1], texts[1][-3:], False)]
    found = model.forward_together(feeds)
    torch.testing.assert_close(found[0], expected[0][-1:], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found[1], expected[1], atol=1e-3, rtol=1e-4)


def test_more_sequences_than_slots(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    contexts = [model.open_context() for _ in range(SLOTS + 3)]
    expected = model.open_context().forward([5, 6])
    for _ in range(2):
        for logits in model.forward_together([Feed(one, [5, 6], False) for one in contexts]):
            torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)
        for context in contexts:
            context.crop(0)
    assert model.slots.n_taken == SLOTS


def test_a_slot_can_be_forked_and_fed_alone(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    contexts = [model.open_context() for _ in range(2)]
    text = tokens(20, seed=4)
    expected = model.open_context().forward([*text, 1, 2])[-2:]
    model.forward_together([Feed(one, text, True) for one in contexts])
    fork = contexts[1].fork(len(text))
    model.forward_together([Feed(one, [7], False) for one in contexts])
    contexts[0].crop(len(text))
    for context in (fork, contexts[0]):
        torch.testing.assert_close(context.forward([1, 2]), expected, atol=1e-3, rtol=1e-4)
    assert fork.n_bytes == model.open_context().n_bytes


@pytest.mark.slow
def test_a_slot_is_free_as_soon_as_its_context_is_gone(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    gc.collect()
    assert model.slots.n_taken == 0
    contexts = [model.open_context() for _ in range(3)]
    model.forward_together([Feed(one, [1], False) for one in contexts])
    assert model.slots.n_taken == 3
    gc.disable()
    try:
        del contexts[1]
        assert model.slots.n_taken == 2
        contexts.append(model.open_context())
        model.forward_together([Feed(one, [1], False) for one in contexts])
        assert model.slots.n_taken == 3
        contexts.clear()
        assert model.slots.n_taken == 0
        with pytest.raises(LookupError):
            _ = model.slots.cache
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["fp32", "torch"])
@pytest.mark.parametrize("drafter", ["none", "auto"])
def test_requests_at_once_get_their_own_texts(
    models: dict[str, Models], backend: str, drafter: str
) -> None:
    model = BatchedModel(getattr(models["llama"], backend))
    prompts = [tokens(3 + 11 * seed, seed) for seed in range(8)]
    decode = Decode(24, drafter=drafter)
    alone = [generate(model, prompt, decode).token_ids for prompt in prompts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda prompt: generate(model, prompt, decode), prompts))
    assert [one.token_ids for one in together] == alone


@pytest.mark.slow
def test_a_cancelled_request_frees_its_slot_within_a_step(models: dict[str, Models]) -> None:
    onnx = models["llama"].fp32
    model = BatchedModel(onnx)
    prompts = [tokens(10, seed) for seed in range(3)]
    expected = [generate(model, prompt, Decode(400)).token_ids for prompt in prompts]
    cancel = threading.Event()

    def decode_until_cancelled(prompt: list[int]) -> list[list[int]]:
        texts = []
        while not cancel.is_set():
            texts.append(generate(model, prompt, Decode(400)).token_ids)
        return texts

    def watch(_: str) -> None:
        # A slot is taken by who was batched with another, whenever that happens.
        if onnx.slots.n_taken == 3:
            cancel.set()

    with ThreadPoolExecutor(2) as pool:
        kept = [pool.submit(decode_until_cancelled, prompt) for prompt in prompts[:2]]
        gives_up_at = time.monotonic() + PATIENCE_S
        try:
            while not cancel.is_set() and time.monotonic() < gives_up_at:
                gone = generate(model, prompts[2], Decode(400), cancel=cancel, on_text=watch)
                n_after = onnx.slots.n_taken
        finally:
            cancel.set()
        for one, text in zip(kept, expected, strict=False):
            assert all(found == text for found in one.result())
    assert gone.finish_reason == "cancelled"
    assert gone.token_ids == expected[2][: len(gone.token_ids)]
    assert n_after <= 2
    assert onnx.slots.n_taken == 0


def test_an_invalid_token_spoils_nobody_elses_step(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    expected = model.open_context().forward([1, 2])
    contexts = [model.open_context() for _ in range(3)]
    with pytest.raises(InvalidInput):
        model.forward_together(
            [Feed(contexts[0], [1], False), Feed(contexts[1], [N_TOKENS], False)]
        )
    assert [context.position for context in contexts] == [0, 0, 0]
    found = model.forward_together([Feed(contexts[n], [1, 2], False) for n in (0, 2)])
    torch.testing.assert_close(found[0], expected, atol=1e-3, rtol=1e-4)


def test_a_model_without_copies_is_refused(models: dict[str, Models]) -> None:
    with pytest.raises(ModelError, match="cannot be copied"):
        BatchedModel(ToyModel(5)).open_context()


def test_another_models_context_is_refused(models: dict[str, Models]) -> None:
    other = models["llama"].torch.open_context()
    with pytest.raises(InvalidInput, match="another"):
        models["llama"].fp32.forward_together([Feed(other, [1], False)])
