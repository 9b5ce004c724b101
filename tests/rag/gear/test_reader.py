"""Attention to sentences: against the obvious way, token by token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.gear.reader import (
    Reading,
    SentenceReader,
    sentence_means,
    sentence_peaks,
    sentence_shares,
    token_attention,
)


@pytest.mark.slow
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


@given(seed=st.integers(0, 10_000), n_sentences=st.integers(1, 6), n_tokens=st.integers(1, 20))
def test_peaks_are_the_largest_of_each_sentence(seed, n_sentences, n_tokens):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(2, 3, n_tokens, generator=generator)
    owners = torch.randint(-1, n_sentences, (2, n_tokens), generator=generator)
    found = sentence_peaks(values, owners, n_sentences)
    means = sentence_means(values, owners, n_sentences)
    assert found.shape == means.shape == (2, 3, n_sentences)
    for row in range(2):
        apart = sentence_means(values[:, 1], owners, n_sentences)[row]
        assert torch.allclose(means[row, 1], apart, atol=1e-6)
        for sentence in range(n_sentences):
            own = values[row, :, owners[row] == sentence]
            peak = own.amax(1) if own.shape[1] else torch.zeros(3)
            assert torch.equal(found[row, :, sentence], peak)


def reading(attention, fused, memory, owners, asked=None, words=None):
    """All of a question's tokens are its own; words are strangers to each other unless given."""
    n_asked, n_tokens = fused.shape[1], memory.shape[1]
    every = torch.ones(len(fused), n_asked)
    asked = torch.eye(n_asked, 8)[None] if asked is None else asked
    words = torch.eye(8)[None, -1:].expand(1, n_tokens, 8) if words is None else words
    looked = [one.expand(1, 2, n_asked, n_tokens) for one in attention]
    return Reading(looked, every, every, fused, asked, memory, words, owners)


def reader(n_layers: int) -> SentenceReader:
    found = SentenceReader(n_layers, 2, 4, [1])
    found.importance = torch.nn.Linear(8, 3)
    torch.nn.init.zeros_(found.importance.weight)
    torch.nn.init.zeros_(found.importance.bias)
    return found


def test_the_reader_gives_nothing_to_sentences_without_a_token():
    looked = [torch.tensor([0.5, 0.5, 0.0])] * 2
    owners = torch.tensor([[0, 0, -1]])
    scores = reader(2)(reading(looked, torch.randn(1, 2, 4), torch.randn(1, 3, 4), owners), 2)
    assert torch.isfinite(scores[0, 0])
    assert scores.softmax(-1)[0].tolist() == [1.0, 0.0]


def test_untrained_the_reader_follows_attention_and_likeness():
    states = torch.eye(4)[None]
    owners = torch.tensor([[0, 0, 1, 1]])
    fused = torch.tensor([[[0.0, 0, 1, 1]]])
    even = [torch.full((4,), 0.25)]
    assert reader(1)(reading(even, fused, states, owners), 2).argmax(1).item() == 1
    looked = [torch.tensor([0.999, 0.999, 1e-9, 1e-9])]
    assert reader(1)(reading(looked, fused, states, owners), 2).argmax(1).item() == 0


def test_a_word_that_is_met_counts_by_its_importance():
    """Sentence 0 has the first asked word, sentence 1 the second."""
    owners = torch.tensor([[0, 0, 1, 1]])
    asked = torch.eye(8)[None, :2]
    words = torch.eye(8)[None, [0, 7, 1, 7]]
    seen = reading(
        [torch.full((4,), 0.25)],
        torch.ones(1, 2, 4),
        torch.ones(1, 4, 4),
        owners,
        asked,
        words,
    )
    made = reader(1)
    assert made(seen, 2)[0, 0].item() == pytest.approx(made(seen, 2)[0, 1].item())
    with torch.no_grad():
        made.importance.weight[1, 1] = 2.0
    assert made(seen, 2).argmax(1).item() == 1
    # A word of nobody's (the question has no token of its own) is met nowhere.
    alone = made(seen._replace(own=torch.zeros(1, 2)), 2)
    assert torch.isfinite(alone).all()
    assert alone[0, 0].item() == pytest.approx(alone[0, 1].item())


def test_the_reader_is_the_sum_of_its_terms():
    """Against the formula, one row at a time, for every parameter at random."""
    torch.manual_seed(3)
    made = SentenceReader(2, 2, 4, [1])
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    owners = torch.tensor([[-1, 0, 0, 1, 2, 2, -1]])
    attention = [torch.rand(1, 2, 3, 7).softmax(-1) for _ in range(2)]
    own, every = torch.tensor([[0.0, 1, 0]]), torch.ones(1, 3)
    fused, asked = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    memory, words = torch.randn(1, 7, 4), torch.randn(1, 7, 4)
    read = Reading(attention, own, every, fused, asked, memory, words, owners)
    found = made(read, 3)[0]
    mix = made.mix(fused[0].mean(0))
    cosine = torch.nn.functional.cosine_similarity
    for sentence in range(3):
        mine = owners[0] == sentence
        score = made.length * mine.sum().log()
        for layer in range(2):
            looked = attention[layer][0, :, 1][:, mine]
            score = score + made.means[layer] * looked.mean().log()
            score = score + made.peaks[layer] * looked.mean(0).max().log()
            score = score + (made.heads[layer] * looked.mean(1).log()).sum()
        score = score + mix[0] * cosine(fused[0].mean(0), memory[0, mine].mean(0), dim=0)
        met = cosine(asked[0, 1][None], words[0, mine], dim=1).clamp(min=0).max() ** 3
        meant = cosine(fused[0, 1][None], memory[0, mine], dim=1).clamp(min=0).max()
        score = score + mix[1] * met + mix[2] * meant
        assert found[sentence].item() == pytest.approx(score.item(), abs=1e-4)
