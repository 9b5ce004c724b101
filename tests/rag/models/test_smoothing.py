"""Smoothing changes the numbers of a model and nothing that it computes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "generate"))

from tiny_decoders import KINDS, N_TOKENS, make_tiny_decoder, save_tiny_decoder

from indexes.errors import ModelError
from rag.models.calibrate import MAX_TOKENS, TEXT, largest_activations
from rag.models.channel_quantize import quantize_channels
from rag.models.decoder_graph import EMBEDDING, HEAD, Tensors
from rag.models.decoder_shape import read_decoder_shape
from rag.models.smoothing import smoothed

INPUTS = {
    "qkv": "self_attn.q_proj",
    "o": "self_attn.o_proj",
    "gate_up": "mlp.gate_proj",
    "down": "mlp.down_proj",
}


def reader(folder: Path) -> Tensors:
    tensors = load_file(folder / "model.safetensors")

    def read(name: str) -> np.ndarray | None:
        found = tensors.get(name)
        return None if found is None else found.float().numpy()

    return read


def smooth(folder: Path, scratch: Path) -> tuple[Tensors, Tensors]:
    shape, tensors = read_decoder_shape(folder), reader(folder)
    largest = largest_activations(folder, shape, tensors, scratch)
    return tensors, smoothed(tensors, shape, largest)


@pytest.mark.parametrize("kind", KINDS)
def test_the_smoothed_model_computes_the_same(tmp_path: Path, kind: str) -> None:
    folder = save_tiny_decoder(tmp_path / kind, kind)
    tensors, changed = smooth(folder, tmp_path)
    model = make_tiny_decoder(kind)
    token_ids = torch.from_numpy(np.random.default_rng(1).integers(0, N_TOKENS, (1, 40)))
    with torch.no_grad():
        expected = model(token_ids).logits
        head = torch.from_numpy(changed(HEAD))
        n_changed = 0
        for name, parameter in model.named_parameters():
            if name == EMBEDDING:
                # A tied head is a tensor of its own now; what the tokens are looked up in stays.
                np.testing.assert_array_equal(changed(name), tensors(name))
                continue
            found = torch.from_numpy(changed(name))
            n_changed += not torch.allclose(found, parameter)
            parameter.copy_(found)
        model.lm_head.weight = torch.nn.Parameter(head)
        found = model(token_ids).logits
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)
    # Seven matrices and two norms of each layer, and the last norm.
    assert n_changed >= 2 * 9 + 1


def test_the_largest_activations_are_those_of_the_model(tmp_path: Path) -> None:
    """The twin: transformers with a look at every input."""
    folder = save_tiny_decoder(tmp_path / "llama", "llama")
    shape = read_decoder_shape(folder)
    found = largest_activations(folder, shape, reader(folder), tmp_path)
    model, seen = make_tiny_decoder("llama"), {}
    for layer in range(shape.n_layers):
        for kind, module in INPUTS.items():
            linear = model.get_submodule(f"model.layers.{layer}.{module}")
            linear.register_forward_pre_hook(watcher(seen, f"{layer}.{kind}"))
    model.lm_head.register_forward_pre_hook(watcher(seen, "head"))
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).ids[:MAX_TOKENS]
    with torch.no_grad():
        model(torch.tensor([ids]))
    assert found.keys() == seen.keys()
    for name, expected in seen.items():
        # Computed at int4: much the same, not the same.
        error = np.linalg.norm(found[name] - expected) / np.linalg.norm(expected)
        assert error < 0.3, name
        other = np.linalg.norm(found[name] - expected[::-1]) / np.linalg.norm(expected)
        assert error < other / 2, name
    assert not list(tmp_path.glob("tmp*"))


def watcher(seen, name):
    def watch(module, inputs) -> None:
        seen[name] = inputs[0].abs().amax(dim=(0, 1)).numpy()

    return watch


def test_smoothing_spares_what_rounding_would_lose(tmp_path: Path) -> None:
    """One loud channel of a layer's input: with smoothing, rows lose less than without."""
    generator = np.random.default_rng(3)
    rows = generator.normal(size=(64, 96)).astype(np.float32)
    rows[:, 5] *= 60
    weights = generator.normal(size=(32, 96)).astype(np.float32)
    scales = np.sqrt(np.abs(rows).max(axis=0) / np.abs(weights).max(axis=0))
    exact = rows @ weights.T
    bare = np.linalg.norm(rounded_product(rows, weights) - exact)
    smooth_error = np.linalg.norm(rounded_product(rows / scales, weights * scales) - exact)
    assert smooth_error < bare / 2


def rounded_product(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    quantized = quantize_channels(weights)
    steps = np.abs(rows).max(axis=1, keepdims=True) / 127
    levels = np.rint(rows / steps).astype(np.int64)
    return (levels @ quantized.codes.astype(np.int64)) * steps * quantized.scales


def test_a_model_without_a_tokenizer(tmp_path: Path) -> None:
    folder = save_tiny_decoder(tmp_path / "llama", "llama")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        largest_activations(folder, read_decoder_shape(folder), reader(folder), tmp_path)
