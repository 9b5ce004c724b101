"""SPLADE's max-pooling with gradients, at little more than its price without.

    w_j = log(1 + relu(max_i h_i · e_j + b_j))

Where w_j is 0 so is its gradient, and of 30,000 terms a text has some 200. So the fast pooling
finds which they are, without gradients, and only those are computed again with gradients: the
block of logits `[positions, V]` never exists, and the backward pass costs next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from rag.retrievers.max_pooling import pool
from rag.retrievers.worker_threads import WorkerThreads

SHARES = 4
"""Shares of the texts that each thread gets, one after the other."""

DENSE = 0.1
"""With more than this share of the vocabulary in an average text all of it is computed again."""


def sparse_pool(
    hidden: torch.Tensor,
    lengths: Sequence[int],
    embeddings: torch.Tensor,
    bias: torch.Tensor | None,
    workers: WorkerThreads,
) -> torch.Tensor:
    """Vocabulary weights `[n, V]` of n texts whose hidden states lie end to end.

    As `max_pooling.pool`, and differentiable in `hidden` `[sum(lengths), d]`, `embeddings`
    `[V, d]` and `bias` `[V]`. A maximum that several positions share passes its gradient to one.
    """
    with torch.no_grad():
        found = _pool(hidden, lengths, embeddings, bias, workers)
        rows, terms = found.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(lengths)).tolist()
    values = _maxima(hidden, lengths, embeddings, terms, counts)
    if bias is not None:
        values = values + bias[terms]
    weights = torch.log1p(torch.relu(values.float()))
    return torch.zeros_like(found, dtype=torch.float32).index_put((rows, terms), weights)


def _pool(
    hidden: torch.Tensor,
    lengths: Sequence[int],
    embeddings: torch.Tensor,
    bias: torch.Tensor | None,
    workers: WorkerThreads,
) -> torch.Tensor:
    """The weights without gradients; the texts are shared out among the threads."""
    # Under automatic mixed precision the layers hand over bfloat16.
    table = embeddings.to(hidden.dtype)
    shift = None if bias is None else bias.to(hidden.dtype)
    size = math.ceil(len(lengths) / (SHARES * workers.n_threads))
    sizes = [list(lengths[first : first + size]) for first in range(0, len(lengths), size)]
    states = hidden.split([sum(some) for some in sizes])

    def work(number: int) -> torch.Tensor:
        with torch.no_grad():
            return pool(states[number], sizes[number], table, shift)

    return torch.cat(list(workers.map(work, range(len(sizes)))))


def _maxima(
    hidden: torch.Tensor,
    lengths: Sequence[int],
    embeddings: torch.Tensor,
    terms: torch.Tensor,
    counts: Sequence[int],
) -> torch.Tensor:
    """max_i h_i · e_j of each text's own terms, end to end `[sum(counts)]`."""
    texts = hidden.split(list(lengths))
    if len(terms) > DENSE * len(embeddings) * len(lengths):
        # As of a head that was not trained for this: then the rows are not worth picking out.
        parts = terms.split(list(counts))
        pairs = zip(texts, parts, strict=True)
        return torch.cat([(text @ embeddings.t()).max(0).values[part] for text, part in pairs])
    picked = functional.embedding(terms, embeddings).split(list(counts))
    return torch.cat(
        [(text @ rows.t()).max(0).values for text, rows in zip(texts, picked, strict=True)]
    )
