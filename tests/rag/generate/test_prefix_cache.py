"""What is reused equals a fresh prefill, on both backends; memory stays within its bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_decoders import save_tiny_decoder

from indexes.errors import InvalidInput
from rag.generate.onnx_model import load_onnx_model
from rag.generate.prefix_cache import ForkableContext, PrefixCache
from rag.generate.torch_model import load_torch_model
from rag.models.optimize import optimize
from rag.models.resolver import resolve

MUCH = 10**9
PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=6)


@pytest.fixture(scope="module", params=["torch", "onnx"])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = save_tiny_decoder(tmp_path_factory.mktemp("tiny"), "llama")
    if request.param == "torch":
        yield load_torch_model(folder, name="tiny")
    else:
        cache = tmp_path_factory.mktemp("cache")
        resolved = resolve(str(folder), cache)
        yield load_onnx_model(resolved, optimize(resolved, cache, "fp32"), n_threads=1)
    torch.set_num_threads(before)


def prefill(prefixes: PrefixCache, prompt: list[int]) -> tuple[ForkableContext, torch.Tensor]:
    context = prefixes.open(prompt)
    logits = context.forward(prompt[context.position :], last_only=True)
    prefixes.keep(context, prompt)
    return context, logits


@given(prompts=PROMPTS)
@settings(max_examples=15, deadline=None)
def test_reuse_equals_a_fresh_prefill(model: Any, prompts: list[list[int]]) -> None:
    prefixes = PrefixCache(model, MUCH)
    seen: list[list[int]] = []
    for prompt in prompts:
        context = prefixes.open(prompt)
        # The twin: compare with every prompt before, token by token.
        longest = max((common(prompt, other) for other in seen), default=0)
        assert context.position == min(longest, len(prompt) - 1)
        logits = context.forward(prompt[context.position :], last_only=True)
        expected = model.open_context().forward(prompt, last_only=True)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        prefixes.keep(context, prompt)
        context.forward([7, 8, 9])
        seen.append(prompt)


def common(one: list[int], other: list[int]) -> int:
    n_tokens = 0
    while n_tokens < min(len(one), len(other)) and one[n_tokens] == other[n_tokens]:
        n_tokens += 1
    return n_tokens


def test_the_least_recently_used_goes_first(model: Any) -> None:
    one = model.open_context()
    one.forward([1] * 40)
    room = 2 * one.fork(40).n_bytes
    prefixes = PrefixCache(model, room)
    for first in (1, 2):
        prefill(prefixes, [first] * 40)
    assert prefixes.open([1] * 41).position == 40
    prefill(prefixes, [3] * 40)
    assert prefixes.n_bytes == room
    assert [prefixes.open([first] * 41).position for first in (1, 2, 3)] == [40, 0, 40]
    prefixes.clear()
    assert prefixes.n_bytes == 0
    assert prefixes.open([1] * 41).position == 0


def test_what_does_not_fit_is_not_kept(model: Any) -> None:
    prefixes = PrefixCache(model, 100)
    prefill(prefixes, [1, 2, 3])
    assert prefixes.n_bytes == 0
    assert prefixes.open([1, 2, 3, 4]).position == 0


def test_a_longer_prompt_takes_the_place_of_its_beginning(model: Any) -> None:
    prefixes = PrefixCache(model, MUCH)
    prefill(prefixes, [1, 2, 3])
    context, _ = prefill(prefixes, [1, 2, 3, 4, 5])
    assert prefixes.n_bytes == context.fork(5).n_bytes
    prefill(prefixes, [1, 2])
    assert prefixes.n_bytes == context.fork(5).n_bytes
    assert prefixes.open([1, 2, 3, 4, 5, 6]).position == 5


def test_more_than_was_fed_cannot_be_kept(model: Any) -> None:
    context = model.open_context()
    context.forward([1, 2])
    with pytest.raises(InvalidInput, match="holds 2"):
        PrefixCache(model, MUCH).keep(context, [1, 2, 3])
