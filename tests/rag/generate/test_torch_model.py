"""A cached context is a fresh forward, whatever the splits and crops; loading is safe and quiet."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes.errors import ModelError, UnsafeModel
from rag.generate.torch_model import TorchModel, load_torch_model

TOKENS = st.lists(st.integers(0, 257), min_size=1, max_size=24)
SIZES = st.lists(st.integers(1, 9), min_size=6, max_size=6)
CROPS = st.lists(st.integers(0, 7), min_size=6, max_size=6)


def fresh(model: TorchModel, token_ids: list[int]) -> torch.Tensor:
    """The slow obvious twin: transformers itself, no cache."""
    with torch.inference_mode():
        logits = model._module(torch.tensor([token_ids]), use_cache=False).logits[0]
    return logits.float()


def check_splits_and_crops(
    model: TorchModel,
    token_ids: list[int],
    sizes: list[int],
    crops: list[int],
    tolerance: float = 1e-4,
) -> None:
    """Feed in pieces of `sizes`; after each, crop by one of `crops` and feed what was lost."""
    close = partial(torch.testing.assert_close, atol=tolerance, rtol=tolerance)
    context = model.open_context()
    expected = fresh(model, token_ids)
    for size, crop in zip(sizes, crops, strict=True):
        piece = token_ids[context.position : context.position + size]
        if not piece:
            break
        start = context.position
        logits = context.forward(piece)
        assert logits.dtype == torch.float32
        close(logits, expected[start : start + size])
        context.crop(max(0, context.position - crop))
    start = context.position
    if start < len(token_ids):
        last = context.forward(token_ids[start:], last_only=True)
        close(last, expected[-1:])
        assert context.position == len(token_ids)


@given(
    TOKENS,
    st.lists(st.integers(1, 9), min_size=6, max_size=6),
    st.lists(st.integers(0, 7), min_size=6, max_size=6),
)
@settings(max_examples=15, deadline=None)
def test_splits_and_crops_equal_a_fresh_forward(
    tiny: TorchModel, token_ids: list[int], sizes: list[int], crops: list[int]
) -> None:
    check_splits_and_crops(tiny, token_ids, sizes, crops)


@given(
    TOKENS,
    st.lists(st.integers(1, 9), min_size=6, max_size=6),
    st.lists(st.integers(0, 7), min_size=6, max_size=6),
)
@settings(max_examples=15, deadline=None)
def test_so_do_they_with_a_sliding_window(
    tiny_sliding: TorchModel, token_ids: list[int], sizes: list[int], crops: list[int]
) -> None:
    check_splits_and_crops(tiny_sliding, token_ids, sizes, crops)


def test_a_crop_that_is_not_undone_would_be_seen(tiny: TorchModel) -> None:
    context = tiny.open_context()
    context.forward([1, 2, 3, 4])
    context.crop(2)
    after_other = context.forward([9])
    assert not torch.allclose(after_other, fresh(tiny, [1, 2, 3, 4, 9])[-1:], atol=1e-2)
    torch.testing.assert_close(after_other, fresh(tiny, [1, 2, 9])[-1:], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_splits_and_crops_of_the_real_model(smollm2: TorchModel) -> None:
    token_ids = smollm2.tokenizer.encode("The kingfisher dives for fish from a branch over water.")
    check_splits_and_crops(smollm2, token_ids, [4, 1, 3, 5, 2], [0, 1, 3, 2, 0], 1e-3)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeModel):
        load_torch_model(tmp_path, name="x")


def test_an_empty_folder_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load_torch_model(tmp_path, name="x")


def test_damaged_weights_are_a_model_error(tiny_folder: Path, tmp_path: Path) -> None:
    for source in tiny_folder.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes()[:2000])
    with pytest.raises(ModelError):
        load_torch_model(tmp_path, name="x")


@pytest.mark.slow
def test_loading_says_nothing(tiny_folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from rag.generate.torch_model import load_torch_model;"
        "m = load_torch_model(Path(sys.argv[1]), name='tiny'); m.open_context().forward([1, 2])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_folder)],
        capture_output=True,
        check=False,
        timeout=200,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
