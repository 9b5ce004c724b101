"""Pointing in fixed point against the plain passes, and the compiled reader against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_reading import TEXTS
from toy_gear import save_base, toy_network

from rag.gear.fixed_reader import FixedReading, importances, read_sentences, reader_weights
from rag.gear.fusion import FusionBlocks
from rag.gear.locator import Locator
from rag.gear.padded_pass import PaddedPass
from rag.gear.reader import Reading, SentenceReader
from rag.gear.reading import ReadDocument
from rag.models.torch_runtime import computing_in
from rag.models.vector_code import multiplies_shorts

pytestmark = pytest.mark.skipif(not multiplies_shorts(), reason="the processor has no AVX2")

QUESTION = [4, 9, 12, 7, 5]
OFF = [("int16", 5e-3), ("int8", 0.05)]
"""By how much states differ, which are some 1 in size."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A base whose layers fill the tiles of compiled code."""
    return save_base(tmp_path_factory.mktemp("wide"), width=64)


def documents(seed: int, lengths: list[int], n_sentences: int) -> list[ReadDocument]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for length in lengths:
        owners = torch.randint(-1, n_sentences, (length,), generator=generator).tolist()
        ids = torch.randint(0, 60, (length,), generator=generator).tolist()
        states = torch.randn(length, 64, generator=generator)
        spans = [(place, place + 1) for place in range(n_sentences)]
        found.append(ReadDocument(spans, ids, states, owners, [(0, 0)] * length))
    return found


@pytest.mark.parametrize(("precision", "off"), OFF)
@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("question", [QUESTION, [4, 8, 5], [4, 5]])
def test_it_is_close_to_the_plain_pass(wide, precision, off, layer, question, monkeypatch):
    network = toy_network(wide, memory_layer=layer).seal()
    read = documents(2, [19, 2, 11], 3)
    states = [one.states for one in read]
    rows = [QUESTION, [4, 5]]
    plain = PaddedPass(network, 0)
    with torch.inference_mode():
        expected = plain.fuse(question, states)
        scores = plain.scores(question, read).softmax(1)
        expected_states = plain.states(rows)
        # The plain blocks must not be asked.
        monkeypatch.setattr(FusionBlocks, "fuse", None)
        assert network.fixed() is None
        with computing_in(precision, "cpu"):
            fixed = network.fixed()
        found = fixed.fuse(question, states)
        torch.testing.assert_close(
            fixed.scores(question, read).softmax(1), scores, atol=2 * off, rtol=0
        )
        for one, other in zip(fixed.states(rows), expected_states, strict=True):
            torch.testing.assert_close(one, other, atol=off, rtol=0)
    torch.testing.assert_close(found.states, expected.states, atol=off, rtol=0)
    for shares, other in zip(found.attention, expected.attention, strict=True):
        torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:-1]))
        assert float((shares - other).abs().sum(-1).mean()) < off
        for row, one in zip(shares, states, strict=True):
            assert not row[..., len(one) :].any()


@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    n_sentences=st.integers(1, 5),
    n_asked=st.integers(2, 6),
)
def test_the_compiled_reader_is_the_plain_one(seed, lengths, n_sentences, n_asked):
    """For every parameter at random."""
    torch.manual_seed(seed)
    reader = SentenceReader(2, 2, 64, [1]).requires_grad_(requires_grad=False)
    for parameter in reader.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    read = documents(seed, lengths, n_sentences)
    n_texts, longest = len(lengths), max(lengths)
    attention = torch.randn(2, n_texts, 2, n_asked, longest)
    fused, vectors = torch.randn(n_texts, n_asked, 64), torch.randn(60, 64)
    asked = vectors[:n_asked]
    owners = torch.full((n_texts, longest), -1)
    words, states = torch.zeros(2, n_texts, longest, 64)
    for row, (one, length) in enumerate(zip(read, lengths, strict=True)):
        attention[:, row, :, :, length:] = -torch.inf
        owners[row, :length] = torch.tensor(one.owners)
        words[row, :length] = vectors[one.ids]
        states[row, :length] = one.states
    attention = attention.softmax(-1)
    every = torch.ones(n_texts, n_asked)
    own = every.clone()
    own[:, [0, -1]] = 0
    many = asked[None].expand(n_texts, -1, -1)
    expected = reader(
        Reading(list(attention), own, every, fused, many, states, words, owners), n_sentences
    )
    fixed = reader_weights(reader)
    weights = importances(fixed, asked.numpy())
    seen = FixedReading(
        np.einsum("lbhmn,m->lbhn", attention.numpy(), weights[0]),
        fused.numpy(),
        asked.numpy(),
        weights[1:],
        np.cumsum([0, *lengths]),
        np.concatenate([one.states.numpy() for one in read]),
        np.array([word for one in read for word in one.ids]),
        vectors.numpy(),
        np.array([owner for one in read for owner in one.owners]),
    )
    found = read_sentences(seen, fixed, n_sentences)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("precision", "off"), OFF)
def test_it_points_as_single_precision_does_alone_and_in_a_batch(wide, precision, off):
    texts = [("", text) for text in TEXTS if text.strip()]
    plain = Locator(toy_network(wide), wide, batch_tokens=4096, precision="float32")
    fixed = Locator(toy_network(wide), wide, batch_tokens=60, precision=precision)
    expected = plain.locate("what fish?", texts, "attention")
    found = fixed.locate("what fish?", texts, "attention")
    for document, one, other in zip(texts, found, expected, strict=True):
        scores = {(s.start, s.end): s.score for s in other}
        assert all(s.score == pytest.approx(scores[s.start, s.end], abs=off) for s in one)
        (alone,) = fixed.locate("what fish?", [document], "attention")
        assert alone == one
