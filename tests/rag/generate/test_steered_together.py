"""Contrast in a batch is contrast alone: by row, and for requests that decode at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_decoders import N_TOKENS, save_tiny_decoder

from rag.answer import Decode, DrafterName
from rag.generate.batching import BatchedModel
from rag.generate.contrast import contrasted, jensen_shannon
from rag.generate.loop import Generation, generate
from rag.generate.onnx_model import load_onnx_model
from rag.generate.shown import Shown
from rag.generate.steering import Opened, open_steering
from rag.generate.torch_model import load_torch_model
from rag.models.optimize import optimize
from rag.models.resolver import resolve

RULES = ["cad:0.15", "cad:1", "adacad", "adacad:floor=0.3", "cad:0.5", "off"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cache = tmp_path_factory.mktemp("cache")
    folder = save_tiny_decoder(tmp_path_factory.mktemp("llama"), "llama")
    resolved = resolve(str(folder), cache)
    graph = optimize(resolved, cache, "fp32")
    yield {
        "fp32": load_onnx_model(resolved, graph, n_threads=1),
        "torch": load_torch_model(folder, name="tiny"),
    }
    torch.set_num_threads(before)


def tokens(n_tokens: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(N_TOKENS - 1), k=n_tokens)


@given(st.integers(2, 8), st.integers(2, 60), st.integers(0, 10**6))
@settings(deadline=None)
def test_a_row_does_not_depend_on_the_others(n_rows: int, n_tokens: int, seed: int) -> None:
    made = torch.randn(2, n_rows, n_tokens, generator=torch.Generator().manual_seed(seed)) * 4
    logits, null_logits = made[0], made[1]
    alpha = jensen_shannon(logits, null_logits)
    scores = contrasted(logits, null_logits, alpha)
    for row in range(n_rows):
        one = slice(row, row + 1)
        alone = jensen_shannon(logits[one], null_logits[one])
        torch.testing.assert_close(alpha[one], alone, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(
            scores[one], contrasted(logits[one], null_logits[one], alone), atol=1e-5, rtol=1e-5
        )


def written(model: Any, number: int, rule: str, drafter: DrafterName) -> tuple[Generation, Opened]:
    """One request, with a prompt and a prompt without evidence of its own."""
    prompt = tokens(8 + 5 * number, number)
    shown = Shown(["evidence"], "", lambda: prompt[-4:])
    decode = Decode(20, drafter=drafter, faithful=rule)
    opened = open_steering(decode, model, shown, len(prompt))
    return generate(model, prompt, decode, steering=opened.steering), opened


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["fp32", "torch"])
@pytest.mark.parametrize("drafter", ["none", "auto"])
def test_faithful_requests_at_once_get_their_own_texts(
    models: dict[str, Any], backend: str, drafter: DrafterName
) -> None:
    model = BatchedModel(models[backend])
    asked = list(enumerate(RULES))
    alone = [written(model, number, rule, drafter) for number, rule in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda one: written(model, *one, drafter), asked))
    for (_, rule), (one, opened), (other, beside) in zip(asked, alone, together, strict=True):
        assert one.token_ids == other.token_ids
        if rule != "off":
            n_tokens = len(one.token_ids)
            contrasts = [each.steering.contrast.alphas(n_tokens) for each in (opened, beside)]
            assert contrasts[0] == pytest.approx(contrasts[1], abs=1e-4)
            assert len(contrasts[0]) == n_tokens


@pytest.mark.slow
def test_the_rule_changes_the_text(models: dict[str, Any]) -> None:
    """Or the test above would show nothing."""
    model = models["torch"]
    changed = 0
    for number in range(5):
        texts = [written(model, number, rule, "none")[0].token_ids for rule in ("off", "cad:1")]
        changed += texts[0] != texts[1]
    assert changed >= 4
