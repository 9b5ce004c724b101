"""From attention to sentences: how much of the question's attention each sentence gets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

TINY = 1e-9


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
    """Mean over each sentence's tokens: values `[B, N]` → `[B, S]`, 0 where there is no token.

    `owners` int64 `[B, N]` says which sentence a token is of, -1 for none (special tokens, title,
    padding). The mean, not the sum: a sum would prefer long sentences.
    """
    belongs = functional.one_hot(owners + 1, n_sentences + 1)[..., 1:].to(values.dtype)
    counts = belongs.sum(1).clamp(min=1)
    return torch.einsum("bn,bns->bs", values, belongs) / counts


def sentence_shares(means: torch.Tensor) -> torch.Tensor:
    """Means `[B, S]` → shares that sum to 1."""
    return means / means.sum(-1, keepdim=True).clamp(min=TINY)


class SentenceReader(nn.Module):  # type: ignore[misc]
    """Log-linear scores of sentences: every layer's attention, and likeness to the fused question.

    score = Σ_l w_l · log(mean attention of layer l) + Σ_l v_l · log(largest of layer l)
    + c · cosine(fused question, mean token state) + n · log(number of tokens). It has 2 L + 2
    parameters and begins as the attention of `layers` plus the cosine.
    """

    def __init__(self, n_layers: int, layers: Sequence[int]) -> None:
        super().__init__()
        means = torch.zeros(n_layers)
        means[[layer - 1 for layer in layers]] = 1.0 / len(layers)
        self.means = nn.Parameter(means)
        self.peaks = nn.Parameter(torch.zeros(n_layers))
        self.likeness = nn.Parameter(torch.tensor([10.0]))
        self.length = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        looked: Sequence[torch.Tensor],
        fused: torch.Tensor,
        memory: torch.Tensor,
        owners: torch.Tensor,
        n_sentences: int,
    ) -> torch.Tensor:
        """Scores `[B, S]`, -inf where a sentence has no token.

        `looked` are each layer's `token_attention` `[B, N]`; `fused` `[B, d]` is the mean fused
        state of the question, `memory` `[B, N, d]` the document's token states.
        """
        belongs = functional.one_hot(owners + 1, n_sentences + 1)[..., 1:].float()
        counts = belongs.sum(1)
        there = counts > 0
        states = torch.einsum("bnd,bns->bsd", memory.float(), belongs)
        likeness = functional.cosine_similarity(states, fused.float()[:, None, :], dim=-1)
        scores = self.likeness * likeness + self.length * counts.clamp(min=1).log()
        for layer, values in enumerate(looked):
            means = sentence_means(values, owners, n_sentences)
            peaks = (values[:, :, None] * belongs).amax(1)
            scores = scores + self.means[layer] * (means + TINY).log()
            scores = scores + self.peaks[layer] * (peaks + TINY).log()
        return scores.masked_fill(~there, -torch.inf)
