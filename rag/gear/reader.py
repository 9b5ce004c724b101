"""From attention to sentences: how much of the question's attention each sentence gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

TINY = 1e-9

HIDDEN = -1e4
"""Before a softmax: nothing, and no NaN where there is nothing else."""


def token_attention(
    attention: Sequence[torch.Tensor], question_mask: torch.Tensor, layers: Sequence[int]
) -> torch.Tensor:
    """Mean over heads, question tokens and layers: `[B, N]`, what each document token gets.

    `attention` is one `[B, heads, M, N]` a layer; `question_mask` `[B, M]` is True at the
    question's own tokens, special ones and padding left out; `layers` are counted from 1.
    """
    weights = question_mask / question_mask.sum(1, keepdim=True).clamp(min=1)
    looked = torch.stack([attention[layer - 1].mean(1) for layer in layers]).mean(0)
    return (weights[:, :, None] * looked).sum(1)


def sentence_means(values: torch.Tensor, owners: torch.Tensor, n_sentences: int) -> torch.Tensor:
    """Mean over each sentence's tokens: values `[B, ..., N]` → `[B, ..., S]`, 0 where none is.

    `owners` int64 `[B, N]` says which sentence a token is of, -1 for none (special tokens, title,
    padding). The mean, not the sum: a sum would prefer long sentences.
    """
    belongs = functional.one_hot(owners + 1, n_sentences + 1)[..., 1:].to(values.dtype)
    counts = belongs.sum(1, keepdim=True).clamp(min=1)
    n_texts, n_tokens = owners.shape
    means = values.reshape(n_texts, -1, n_tokens) @ belongs / counts
    return means.view(*values.shape[:-1], n_sentences)


def sentence_peaks(values: torch.Tensor, owners: torch.Tensor, n_sentences: int) -> torch.Tensor:
    """Largest over each sentence's tokens of values ≥ 0 `[B, M, N]` → `[B, M, S]`, 0 where none."""
    places = (owners + 1)[:, None, :].expand_as(values)
    peaks = values.new_zeros(*values.shape[:2], n_sentences + 1)
    return peaks.scatter_reduce(2, places, values, "amax")[..., 1:]


def sentence_shares(means: torch.Tensor) -> torch.Tensor:
    """Means `[B, S]` → shares that sum to 1."""
    return means / means.sum(-1, keepdim=True).clamp(min=TINY)


class Reading(NamedTuple):
    """What a fusion pass shows the reader of questions and documents, a pair a row.

    `attention` is one `[B, heads, M, N]` a layer, `own` `[B, M]` is 1 at the question's own tokens
    and `every` at its special ones too; `fused` `[B, M, d]` are its fused states, `asked` its
    tokens' word vectors. `memory` `[B, N, d]` are the document's token states, `words` its word
    vectors, and `owners` int64 `[B, N]` the sentences of its tokens.
    """

    attention: Sequence[torch.Tensor]
    own: torch.Tensor
    every: torch.Tensor
    fused: torch.Tensor
    asked: torch.Tensor
    memory: torch.Tensor
    words: torch.Tensor
    owners: torch.Tensor


class SentenceReader(nn.Module):  # type: ignore[misc]
    """Log-linear scores of sentences: attention, likeness, and whether each asked word is met.

    score = Σ_l w_l · log(mean attention of layer l) + Σ_l v_l · log(largest of layer l)
    + Σ_lh z_lh · log(mean attention of head h of layer l) + n · log(number of tokens)
    + a · cosine(mean fused question, mean token state) + b · Σ_i u_i max_j cos³(words i, j)
    + c · Σ_i u'_i max_j cos(states i, j),

    with maxima over the sentence's tokens (late interaction, Khattab and Zaharia 2020). How much a
    question's token counts (u, u', and in attention) is a softmax of what its word vector says; a,
    b and c depend on the fused question. It begins as the attention of `layers` plus likeness.
    """

    def __init__(self, n_layers: int, n_heads: int, width: int, layers: Sequence[int]) -> None:
        super().__init__()
        means = torch.zeros(n_layers)
        means[[layer - 1 for layer in layers]] = 1.0 / len(layers)
        self.means = nn.Parameter(means)
        self.peaks = nn.Parameter(torch.zeros(n_layers))
        self.heads = nn.Parameter(torch.zeros(n_layers, n_heads))
        self.length = nn.Parameter(torch.zeros(1))
        self.mix = nn.Linear(width, 3)
        self.importance = nn.Linear(width, 3)
        with torch.no_grad():
            for part in (self.mix, self.importance):
                part.weight.zero_()
                part.bias.zero_()
            self.mix.bias.copy_(torch.tensor([10.0, 4.0, 4.0]))

    def forward(self, read: Reading, n_sentences: int) -> torch.Tensor:
        """Scores `[B, S]`, -inf where a sentence has no token."""
        counts = functional.one_hot(read.owners + 1, n_sentences + 1)[..., 1:].sum(1)
        weights = self._importance(read)
        fused = read.fused.float()
        every = read.every / read.every.sum(1, keepdim=True)
        question = (fused * every[:, :, None]).sum(1)
        mixed = self.mix(question)
        scores = self.length * counts.clamp(min=1).log()
        scores = scores + self._attended(read, weights[..., 0], n_sentences)
        memory = read.memory.float()
        states = sentence_means(memory.transpose(1, 2), read.owners, n_sentences)
        liked = functional.cosine_similarity(states, question[:, :, None], dim=1)
        met = sentence_peaks(_cosines(read.asked, read.words) ** 3, read.owners, n_sentences)
        meant = sentence_peaks(_cosines(fused, memory), read.owners, n_sentences)
        scores = scores + mixed[:, :1] * liked
        scores = scores + mixed[:, 1:2] * (weights[..., 1, None] * met).sum(1)
        scores = scores + mixed[:, 2:] * (weights[..., 2, None] * meant).sum(1)
        return scores.masked_fill(counts == 0, -torch.inf)

    def _importance(self, read: Reading) -> torch.Tensor:
        """`[B, M, 3]`: how much each of a question's own tokens counts, 1 in sum (or 0)."""
        own = read.own[:, :, None]
        found = self.importance(read.asked.float())
        return found.masked_fill(own == 0, HIDDEN).softmax(1) * own

    def _attended(self, read: Reading, weights: torch.Tensor, n_sentences: int) -> torch.Tensor:
        """What attention says of each sentence `[B, S]`."""
        attention = torch.stack([looked.float() for looked in read.attention], 1)
        looked = (weights[:, None, None, None, :] @ attention)[..., 0, :]
        heads = sentence_means(looked, read.owners, n_sentences)
        peaks = sentence_peaks(looked.mean(2), read.owners, n_sentences)
        scores = torch.einsum("l,bls->bs", self.means, (heads.mean(2) + TINY).log())
        scores = scores + torch.einsum("l,bls->bs", self.peaks, (peaks + TINY).log())
        return scores + torch.einsum("lh,blhs->bs", self.heads, (heads + TINY).log())


def _cosines(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """`[B, M, d]`, `[B, N, d]` → `[B, M, N]`, none below 0."""
    first = functional.normalize(rows.float(), dim=-1)
    return (first @ functional.normalize(others.float(), dim=-1).transpose(1, 2)).clamp(min=0)
