"""What every backend's contexts promise, whoever computes: bounds, forks, bytes, threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoders import N_TOKENS, save_tiny_decoder

from indexes.errors import InvalidInput
from rag.generate import compiled_cache, onnx_cache
from rag.generate.compiled_model import load_compiled_model
from rag.generate.language_model import LanguageModel
from rag.generate.onnx_model import load_onnx_model
from rag.generate.torch_model import load_torch_model
from rag.models.optimize import optimize
from rag.models.resolver import ResolvedModel, resolve

pytestmark = pytest.mark.usefixtures("one_torch_thread")

LENGTH = 600
"""Tokens that the tiny model reads."""

HEADS, WIDTH, LAYERS = 2, 16, 2
"""Of its keys, and of its values."""

Open = Callable[[ResolvedModel, Path], LanguageModel]
BACKENDS: dict[str, Open] = {
    "torch": lambda model, _: load_torch_model(model.folder, name=model.name),
    "onnx fp32": lambda model, cache: load_onnx_model(
        model, optimize(model, cache, "fp32"), n_threads=1
    ),
    "onnx int4": lambda model, cache: load_onnx_model(
        model, optimize(model, cache, "int4"), n_threads=1
    ),
    "compiled": lambda model, cache: load_compiled_model(
        model, optimize(model, cache, "int8"), n_threads=1
    ),
}
KEPT = {
    "onnx fp32": (onnx_cache.FIRST_CAPACITY, 4),
    "compiled": (compiled_cache.FIRST_CAPACITY, 2),
}
"""Positions that a new context has room for, and bytes of a number in it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_decoder(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def models(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, LanguageModel]:
    cache = tmp_path_factory.mktemp("cache")
    model = resolve(str(folder), cache)
    return {name: opened(model, cache) for name, opened in BACKENDS.items()}


@pytest.fixture(params=BACKENDS)
def model(request: pytest.FixtureRequest, models: dict[str, LanguageModel]) -> LanguageModel:
    return models[request.param]


def text(n_tokens: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, N_TOKENS, n_tokens).tolist()


def last(model: LanguageModel, token_ids: list[int]) -> torch.Tensor:
    """The slow obvious twin: all of it, in a context of its own."""
    return model.open_context().forward(token_ids)[-1:]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("token_ids", [[], [-1], [N_TOKENS], [1, 2, 10**9]])
def test_tokens_that_cannot_be_fed(model: LanguageModel, token_ids: list[int]) -> None:
    context = model.open_context()
    with pytest.raises(InvalidInput):
        context.forward(token_ids)
    assert context.position == 0


def test_a_context_has_an_end(model: LanguageModel) -> None:
    context = model.open_context()
    context.forward([1] * LENGTH, last_only=True)
    with pytest.raises(InvalidInput, match="601 tokens"):
        context.forward([1])
    assert context.position == LENGTH


@pytest.mark.parametrize("position", [-1, 4])
def test_positions_out_of_range(model: LanguageModel, position: int) -> None:
    context: Any = model.open_context()
    context.forward([1, 2, 3])
    with pytest.raises(InvalidInput, match="crop"):
        context.crop(position)
    with pytest.raises(InvalidInput, match="fork"):
        context.fork(position)
    assert context.position == 3


def test_a_crop_to_nothing_starts_over(model: LanguageModel) -> None:
    context = model.open_context()
    context.forward(text(9, seed=1))
    context.crop(0)
    close(context.forward([5, 6])[-1:], last(model, [5, 6]))


def test_contexts_do_not_share_what_they_hold(model: LanguageModel) -> None:
    one, other = model.open_context(), model.open_context()
    one.forward([1, 2, 3])
    other.forward([4])
    assert (one.position, other.position) == (3, 1)
    close(one.forward([5]), last(model, [1, 2, 3, 5]))


@pytest.mark.parametrize("n_kept", [0, 1, 15, 16, 17, 40])
def test_a_fork_is_a_context_of_its_own(model: LanguageModel, n_kept: int) -> None:
    before = text(40, seed=5)
    context: Any = model.open_context()
    context.forward(before)
    fork = context.fork(n_kept)
    assert fork.position == n_kept
    close(fork.forward([7]), last(model, [*before[:n_kept], 7]))
    close(context.forward([9]), last(model, [*before, 9]))


@pytest.mark.parametrize("backend", KEPT)
def test_memory_grows_with_the_context(models: dict[str, LanguageModel], backend: str) -> None:
    capacity, n_bytes = KEPT[backend]
    context: Any = models[backend].open_context()
    small = context.n_bytes
    assert small == LAYERS * 2 * HEADS * capacity * WIDTH * n_bytes
    context.forward([1] * capacity, last_only=True)
    assert context.n_bytes == small
    context.forward([1])
    assert context.n_bytes == 2 * small
    assert context.fork(10).n_bytes == small


@pytest.mark.slow
def test_threads_do_not_disturb_each_other(model: LanguageModel) -> None:
    """A context each of one model: the same logits as one after the other, bit for bit."""

    def run(seed: int) -> torch.Tensor:
        context, token_ids = model.open_context(), text(120, seed)
        rows = [context.forward(token_ids[:40], last_only=True)]
        return torch.cat(rows + [context.forward([token_id]) for token_id in token_ids[40:]])

    alone = [run(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(4)))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


def test_facts(model: LanguageModel, folder: Path) -> None:
    assert (model.name, model.context_length) == (folder.name, LENGTH)
    assert (model.vocabulary_size, model.eos_ids) == (N_TOKENS, {N_TOKENS - 1})
    assert model.tokenizer.decode(model.tokenizer.encode("a kingfisher")) == "a kingfisher"
