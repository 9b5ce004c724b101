"""The losses of pre-training (Xiao et al. 2023, equations 4 to 8), over all terms or some."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


class Terms:
    """The vocabulary that a step's softmaxes are over: `ids` int64 `[S]`, ascending.

    All of it, or the `needed` tokens and others drawn at random: among so many that were not
    needed the rest of a softmax's sum is small, and the product with the embeddings, the bulk of
    the work, shrinks with S.
    """

    def __init__(self, needed: torch.Tensor, n_others: int, n_terms: int) -> None:
        if n_others:
            others = torch.randint(n_terms, (n_others,), device=needed.device)
            self.ids = torch.cat([needed.flatten(), others]).unique()
        else:
            self.ids = torch.arange(n_terms, device=needed.device)

    def places(self, tokens: torch.Tensor) -> torch.Tensor:
        """Where tokens, all of them needed ones, stand among the terms."""
        return torch.searchsorted(self.ids, tokens)


def token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of `[n, S]` logits and the places `[n]` of the true tokens."""
    return functional.cross_entropy(logits.float(), targets)


def bag_of_words_loss(pooled: torch.Tensor, bags: Sequence[torch.Tensor]) -> torch.Tensor:
    """− mean over texts, mean over a text's distinct tokens, of log softmax(pooled) there.

    `pooled` `[B, S]` are each text's logits, maxima over its ordinary tokens; `bags[b]` the places
    of its distinct ordinary tokens.
    """
    likely = torch.log_softmax(pooled.float(), dim=1)
    return -torch.stack([row[bag].mean() for row, bag in zip(likely, bags, strict=True)]).mean()


def tie_loss(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """1 − cosine of `[B, d]` vectors and those they should keep close to."""
    return 1 - functional.cosine_similarity(found.float(), wanted.float(), dim=1).mean()
