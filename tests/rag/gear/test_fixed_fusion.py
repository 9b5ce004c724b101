"""The fusion pass in fixed point against the plain one, and pointing with it."""

from __future__ import annotations

import pytest
import torch
from test_reading import TEXTS
from toy_gear import save_base, toy_network

from rag.gear.fusion import FusionBlocks, Memory
from rag.gear.locator import Locator
from rag.models.bert_layers import padded
from rag.models.torch_runtime import computing_in
from rag.models.vector_code import multiplies_shorts

pytestmark = pytest.mark.skipif(not multiplies_shorts(), reason="the processor has no AVX2")

ROWS = [[4, 9, 12, 7, 5], [4, 8, 5], [4, 5]]
OFF = [("int16", 5e-3), ("int8", 0.05)]
"""By how much states differ, which are some 1 in size."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A base whose layers fill the tiles of compiled code."""
    return save_base(tmp_path_factory.mktemp("wide"), width=64)


@pytest.mark.parametrize(("precision", "off"), OFF)
@pytest.mark.parametrize("with_padding", [True, False])
def test_it_is_close_to_the_plain_pass(wide, precision, off, with_padding, monkeypatch):
    network = toy_network(wide).seal()
    ids, mask = padded(ROWS, 0, "cpu")
    torch.manual_seed(2)
    states = torch.randn(3, 19, 64)
    read = torch.arange(19)[None, :] < torch.tensor([[19], [2], [11]])
    memory = Memory(states, read if with_padding else None)
    with torch.inference_mode():
        expected = network.fuse(ids, mask, memory)
        # The plain blocks must not be asked.
        monkeypatch.setattr(FusionBlocks, "fuse", None)
        with computing_in(precision, "cpu"):
            found = network.fuse(ids, mask, memory)
    torch.testing.assert_close(found.states[mask], expected.states[mask], atol=off, rtol=0)
    for one, other in zip(found.attention, expected.attention, strict=True):
        shares, plain = one.transpose(1, 2)[mask], other.transpose(1, 2)[mask]
        torch.testing.assert_close(shares.sum(-1), torch.ones_like(shares.sum(-1)))
        assert float((shares - plain).abs().sum(-1).mean()) < off
        if with_padding:
            assert not one.transpose(1, 3)[~read].any()


@pytest.mark.parametrize(("precision", "off"), OFF)
def test_it_points_as_single_precision_does_alone_and_in_a_batch(wide, precision, off):
    documents = [("", text) for text in TEXTS if text.strip()]
    plain = Locator(toy_network(wide), wide, batch_tokens=4096, precision="float32")
    fixed = Locator(toy_network(wide), wide, batch_tokens=60, precision=precision)
    expected = plain.locate("what fish?", documents, "attention")
    found = fixed.locate("what fish?", documents, "attention")
    for document, one, other in zip(documents, found, expected, strict=True):
        scores = {(s.start, s.end): s.score for s in other}
        assert all(s.score == pytest.approx(scores[s.start, s.end], abs=off) for s in one)
        (alone,) = fixed.locate("what fish?", [document], "attention")
        assert alone == one
