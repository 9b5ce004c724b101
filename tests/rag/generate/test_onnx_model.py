"""The graph against transformers, in pieces and crops, at both precisions, from several threads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from platformdirs import user_cache_path
from tiny_decoders import KINDS, N_TOKENS, save_tiny_decoder

from indexes.errors import ModelError
from rag.generate.onnx_cache import FIRST_CAPACITY
from rag.generate.onnx_model import OnnxModel, load_onnx_model
from rag.generate.torch_model import TorchModel, load_torch_model
from rag.models.block_quantize import quantize_affine, quantize_symmetric
from rag.models.graph_writer import WEIGHTS
from rag.models.optimize import find_optimized, optimize
from rag.models.resolver import resolve

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TOKENS = st.lists(st.integers(0, N_TOKENS - 1), min_size=1, max_size=30)
SIZES = st.lists(st.integers(1, 9), min_size=6, max_size=6)
CROPS = st.lists(st.integers(0, 7), min_size=6, max_size=6)


class Pair(msgspec.Struct, frozen=True):
    """The same weights on both backends."""

    torch: TorchModel
    onnx: OnnxModel


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_tiny_decoder(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pairs(folders: dict[str, Path], cache: Path) -> dict[str, Pair]:
    return {kind: open_pair(folder, cache, "fp32") for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def llama(pairs: dict[str, Pair]) -> OnnxModel:
    return pairs["llama"].onnx


@pytest.fixture(scope="module")
def llama_int4(folders: dict[str, Path], cache: Path) -> OnnxModel:
    return open_pair(folders["llama"], cache, "int4").onnx


def open_pair(folder: Path, cache: Path, precision: Any) -> Pair:
    model = resolve(str(folder), cache)
    graph = optimize(model, cache, precision)
    return Pair(load_torch_model(folder, name="tiny"), load_onnx_model(model, graph, n_threads=1))


def fresh(model: TorchModel, token_ids: list[int]) -> torch.Tensor:
    """The slow obvious twin: transformers itself, no cache."""
    with torch.inference_mode():
        logits: torch.Tensor = model._module(torch.tensor([token_ids]), use_cache=False).logits[0]
    return logits


def check_splits_and_crops(
    pair: Pair, token_ids: list[int], sizes: list[int], crops: list[int]
) -> None:
    """Feed in pieces of `sizes`; after each, crop by one of `crops` and feed what was lost."""
    context = pair.onnx.open_context()
    expected = fresh(pair.torch, token_ids)
    for size, crop in zip(sizes, crops, strict=True):
        start = context.position
        piece = token_ids[start : start + size]
        if not piece:
            break
        logits = context.forward(piece)
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, expected[start : start + size], atol=1e-3, rtol=1e-4)
        context.crop(max(0, context.position - crop))
    start = context.position
    if start < len(token_ids):
        last = context.forward(token_ids[start:], last_only=True)
        torch.testing.assert_close(last, expected[-1:], atol=1e-3, rtol=1e-4)
        assert context.position == len(token_ids)


@pytest.mark.parametrize("kind", KINDS)
@given(token_ids=TOKENS, sizes=SIZES, crops=CROPS)
@settings(max_examples=10, deadline=None)
def test_splits_and_crops_equal_transformers_without_a_cache(
    pairs: dict[str, Pair],
    kind: str,
    token_ids: list[int],
    sizes: list[int],
    crops: list[int],
) -> None:
    check_splits_and_crops(pairs[kind], token_ids, sizes, crops)


@pytest.mark.parametrize("kind", KINDS)
def test_buffers_that_grow_keep_the_past(pairs: dict[str, Pair], kind: str) -> None:
    token_ids = np.random.default_rng(3).integers(0, N_TOKENS, 2 * FIRST_CAPACITY + 40).tolist()
    expected = fresh(pairs[kind].torch, token_ids)
    context = pairs[kind].onnx.open_context()
    for start in range(0, len(token_ids), FIRST_CAPACITY - 10):
        piece = token_ids[start : start + FIRST_CAPACITY - 10]
        logits = context.forward(piece)
        wanted = expected[start : start + len(piece)]
        torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=1e-4)


def test_a_crop_that_is_not_undone_would_be_seen(pairs: dict[str, Pair]) -> None:
    pair = pairs["llama"]
    context = pair.onnx.open_context()
    context.forward([1, 2, 3, 4])
    context.crop(2)
    after_other = context.forward([9])
    assert not torch.allclose(after_other, fresh(pair.torch, [1, 2, 3, 4, 9])[-1:], atol=1e-2)
    torch.testing.assert_close(after_other, fresh(pair.torch, [1, 2, 9])[-1:], atol=1e-3, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_int4_is_the_model_with_its_weights_rounded(
    folders: dict[str, Path], cache: Path, kind: str
) -> None:
    pair = open_pair(folders[kind], cache, "int4")
    token_ids = np.random.default_rng(4).integers(0, N_TOKENS, 24).tolist()
    plain = fresh(pair.torch, token_ids)
    round_weights(pair.torch)
    rounded = fresh(pair.torch, token_ids)
    logits = pair.onnx.open_context().forward(token_ids)
    # What is left is the rounding of activations to 8 bits.
    assert relative_error(logits, rounded) < 0.05
    assert relative_error(logits, plain) > 2 * relative_error(logits, rounded)


def round_weights(model: TorchModel) -> None:
    """Put what the 4-bit and 8-bit codes stand for into the torch model."""
    with torch.no_grad():
        for name, parameter in model._module.named_parameters():
            if parameter.ndim != 2:
                continue
            weights = parameter.numpy()
            if "embed_tokens" in name or "lm_head" in name:
                symmetric = quantize_symmetric(weights)
                blocks = (symmetric.codes.astype(np.float32) - 128) * symmetric.scales[..., None]
            else:
                affine = quantize_affine(weights)
                codes = np.stack([affine.codes & 15, affine.codes >> 4], axis=-1)
                codes = codes.reshape(*affine.scales.shape, -1).astype(np.float32)
                blocks = (codes - 8) * affine.scales[..., None] + affine.centres[..., None]
            parameter.copy_(
                torch.from_numpy(blocks.reshape(len(weights), -1))[:, : parameter.shape[1]]
            )


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_a_graph_that_cannot_be_loaded(folders: dict[str, Path], tmp_path: Path) -> None:
    model = resolve(str(folders["llama"]), tmp_path)
    graph = optimize(model, tmp_path, "int4")
    (graph.folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(ModelError, match="cannot load the graph"):
        load_onnx_model(model, graph)


@pytest.fixture(scope="module")
def smollm2_pair() -> Pair:
    """The default generator, whose fp32 graph is found in the cache or built into it."""
    cache = Path(os.environ.get("RAG_CACHE") or user_cache_path("evident"))
    try:
        model = resolve("smollm2-135m-instruct", cache)
    except ModelError as error:
        pytest.skip(f"absent: {error}")
    graph = find_optimized(model, cache, "fp32") or optimize(model, cache, "fp32")
    return Pair(load_torch_model(model.folder, name="smollm2"), load_onnx_model(model, graph))


@pytest.mark.slow
def test_the_real_model_at_fp32(smollm2_pair: Pair) -> None:
    text = "The kingfisher dives for fish from a branch over water. " * 6
    token_ids = smollm2_pair.torch.tokenizer.encode(text)
    assert token_ids == smollm2_pair.onnx.tokenizer.encode(text)
    check_splits_and_crops(smollm2_pair, token_ids, [30, 1, 3, 5, 16, 1], [0, 1, 3, 2, 9, 0])


@pytest.mark.slow
def test_the_real_model_at_int4_keeps_the_text(smollm2_pair: Pair) -> None:
    """Its weights come from 4-bit codes, which the graph stores as they are."""
    cache = Path(os.environ.get("RAG_CACHE") or user_cache_path("evident"))
    model = resolve("smollm2-135m-instruct", cache)
    int4 = load_onnx_model(model, optimize(model, cache, "int4"))
    assert divergence(smollm2_pair.torch, int4) < 0.02


def divergence(exact: TorchModel, rounded: OnnxModel) -> float:
    """Mean of KL(exact || rounded) over the tokens of a question."""
    token_ids = exact.tokenizer.chat([("user", "Why do kingfishers dive? Answer in one sentence.")])
    expected = exact.open_context().forward(token_ids).log_softmax(-1)
    found = rounded.open_context().forward(token_ids).log_softmax(-1)
    return float((expected.exp() * (expected - found)).sum(-1).mean())
