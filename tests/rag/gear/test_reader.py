"""Attention to sentences: against the obvious way, token by token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.gear.reader import SentenceReader, sentence_means, sentence_shares, token_attention


@given(seed=st.integers(0, 10_000), n_sentences=st.integers(1, 6), n_tokens=st.integers(1, 20))
def test_means_are_those_of_each_sentence(seed, n_sentences, n_tokens):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(2, n_tokens, generator=generator)
    owners = torch.randint(-1, n_sentences, (2, n_tokens), generator=generator)
    found = sentence_means(values, owners, n_sentences)
    for row in range(2):
        for sentence in range(n_sentences):
            own = [float(v) for v, o in zip(values[row], owners[row], strict=True) if o == sentence]
            mean = sum(own) / len(own) if own else 0.0
            assert float(found[row, sentence]) == pytest.approx(mean, abs=1e-6)
    shares = sentence_shares(found).sum(1)
    assert all(float(total) == pytest.approx(1, abs=1e-4) or total == 0 for total in shares)


def test_a_long_sentence_is_not_better_for_being_long():
    values = torch.tensor([[0.2, 0.2, 0.2, 0.3]])
    owners = torch.tensor([[0, 0, 0, 1]])
    assert sentence_means(values, owners, 2)[0].argmax() == 1


def test_special_tokens_of_either_side_do_not_count():
    attention = [torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 4)]
    attention[1][0, 0, 0, 0] = 1.0  # [CLS] of the question looks at [CLS] of the document
    attention[1][0, 0, 1, 2] = 1.0
    own = torch.tensor([[0.0, 1.0, 0.0]])
    looked = token_attention(attention, own, [2])
    assert looked.tolist() == [[0.0, 0.0, 1.0, 0.0]]
    means = sentence_means(looked, torch.tensor([[-1, 0, 1, -1]]), 2)
    assert sentence_shares(means).tolist() == [[0.0, 1.0]]


def test_the_reader_gives_nothing_to_sentences_without_a_token():
    reader = SentenceReader(2, [1])
    looked = [torch.tensor([[0.5, 0.5, 0.0]])] * 2
    owners = torch.tensor([[0, 0, -1]])
    scores = reader(looked, torch.randn(1, 4), torch.randn(1, 3, 4), owners, 2)
    assert torch.isfinite(scores[0, 0])
    assert scores.softmax(-1)[0].tolist() == [1.0, 0.0]


def test_untrained_the_reader_follows_attention_and_likeness():
    reader = SentenceReader(1, [1])
    states = torch.eye(4)[None]
    owners = torch.tensor([[0, 0, 1, 1]])
    even = [torch.full((1, 4), 0.25)]
    liked = reader(even, torch.tensor([[0.0, 0, 1, 1]]), states, owners, 2)
    assert liked.argmax(1).item() == 1
    looked = [torch.tensor([[0.999, 0.999, 1e-6, 1e-6]])]
    assert reader(looked, torch.tensor([[0.0, 0, 1, 1]]), states, owners, 2).argmax(1).item() == 0
