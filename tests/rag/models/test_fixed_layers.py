"""Layers in 16-bit fixed point against the plain ones, and their parts against torch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import BertConfig, BertModel

from rag.models import vector_code
from rag.models.bert_layers import BertEncoder, BertLayer, load_encoder, mean_state, padded
from rag.models.fixed_attention import attend
from rag.models.row_code import add_and_norm, fix_softmax, gelu
from rag.models.torch_runtime import Precision, computing_in, rounding_wanted
from rag.models.vector_code import multiplies_shorts

pytestmark = pytest.mark.skipif(not multiplies_shorts(), reason="the processor has no AVX2")

ROWS = [[2, 5, 6, 7, 3], [2, 8, 3], [2, 3], [2, *range(4, 29), 3]]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> BertEncoder:
    return toy(tmp_path_factory.mktemp("toy"))


def toy(folder: Path, heads: int = 2) -> BertEncoder:
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=30,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=heads,
        intermediate_size=128,
        max_position_embeddings=40,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    encoder = load_encoder(folder)
    encoder.stack.seal()
    return encoder


@pytest.mark.slow
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[3:], [[2, 9, 9, 3]] * 3])
@pytest.mark.parametrize(("precision", "off"), [("int16", 2e-3), ("int8", 0.25)])
def test_states_are_close_to_those_of_the_plain_layers(
    encoder: BertEncoder,
    rows: list[list[int]],
    precision: Precision,
    off: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids, mask = padded(rows, 0, "cpu")
    with torch.inference_mode():
        states = encoder.embed(ids)
        expected = encoder.run(states, mask, 1, 4)
        # The plain layers must not be asked: what they say from now on is wrong.
        monkeypatch.setattr(BertLayer, "forward", lambda *_: None)
        with computing_in(precision, "cpu"):
            found = encoder.run(states, mask, 1, 4)
    kept = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(found[kept], expected[kept], atol=off, rtol=0)
    assert not torch.equal(found[kept], expected[kept])
    assert not found[~kept].any()


def test_unit_means_are_those_of_the_layers(encoder: BertEncoder) -> None:
    ids, mask = padded(ROWS, 0, "cpu")
    with torch.inference_mode():
        means = mean_state(encoder.run(encoder.embed(ids), mask), mask)
        assert encoder.fixed() is None  # not wanted here
        with computing_in("int16", "cpu"):
            fixed = encoder.fixed()
    assert fixed is not None
    found = fixed.unit_means(ROWS)
    np.testing.assert_allclose(found, functional.normalize(means, dim=1), atol=1e-3)
    for row, together in zip(ROWS, found, strict=True):
        np.testing.assert_array_equal(fixed.unit_means([row])[0], together)


def test_what_fixed_point_cannot_do_is_done_plainly(tmp_path: Path) -> None:
    encoder = toy(tmp_path, heads=8)  # heads of 8 numbers fill no panel
    ids, mask = padded(ROWS, 0, "cpu")
    with torch.inference_mode(), computing_in("int16", "cpu"):
        assert encoder.fixed() is None
        assert encoder.run(encoder.embed(ids), mask).isfinite().all()
    states = encoder.embed(ids).detach().requires_grad_()
    with computing_in("int16", "cpu"):
        encoder.run(states, mask).sum().backward()
    assert states.grad is not None


def test_it_is_wanted_inside_its_context_only() -> None:
    assert rounding_wanted() is None
    with computing_in("int16", "cpu"):
        with computing_in("int8", "cpu"):
            assert rounding_wanted() == "int8"
        with computing_in("float32", "cpu"):
            assert rounding_wanted() == "int16"
    assert rounding_wanted() is None


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7, 16, 17, 33, 100])
def test_attention_is_torchs(length: int) -> None:
    torch.manual_seed(length)
    read = torch.randn(length, 3 * 64) * 2
    query, key, value = (part.view(length, 2, 32).transpose(0, 1) for part in read.chunk(3, 1))
    expected = functional.scaled_dot_product_attention(query, key, value)
    mixed = np.empty((length, 64), np.float32)
    attend(read.numpy(), 2, mixed)
    np.testing.assert_allclose(mixed, expected.transpose(0, 1).reshape(length, 64), atol=3e-3)


def test_parts_are_torchs() -> None:
    row = np.linspace(-12, 12, 4001).astype(np.float32)
    expected = functional.gelu(torch.from_numpy(row)).numpy()
    allowed = np.maximum(1e-5, 6e-6 * np.abs(row))
    gelu(row)
    assert (np.abs(row - expected) <= allowed).all()
    torch.manual_seed(3)
    rows, residual, norm = torch.randn(40), torch.randn(40), torch.randn(2, 40)
    expected = functional.layer_norm(rows + residual, (40,), norm[0], norm[1], 1e-12).numpy()
    found = rows.numpy().copy()
    add_and_norm(found, residual.numpy(), norm.numpy(), 1e-12)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("scores", [[0.0], [3.0, 3.0], [0, -1, -2.5], [500, 0, 499, -4000]])
def test_softmax_is_the_exact_one(scores: list[float]) -> None:
    numbers = np.zeros(len(scores), np.int16)
    scale = fix_softmax(np.array(scores, np.float32), numbers)
    exact = np.exp2(np.array(scores) - max(scores))
    np.testing.assert_allclose(numbers * scale, exact / exact.sum(), atol=5e-5)


def test_all_that_is_compiled_with_others_is_in_their_stamp() -> None:
    folder = Path(vector_code.__file__).parent
    using = {file.stem for file in folder.glob("*.py") if "import compiled" in _imports(file)}
    assert using <= set(vector_code.STAMPED)


def _imports(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if "vector_code import" in line]
    return " ".join("import compiled" for line in named if "compiled" in line)
