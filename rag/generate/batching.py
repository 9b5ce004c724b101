"""Forwards of concurrent requests, gathered into batches where the model can feed several at once.

Each request computes in a thread of its own, which its caller bounds. One that finds nobody
computing computes at once; those that come meanwhile wait and are fed together next, by one of
them. Short forwards are batched: decoding steps, with drafts or without. A long one, a prompt, is
cut into pieces that take turns with the batches: a newcomer slows the others down, but does not
stop them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from indexes.errors import InvalidInput, ModelError
from rag.generate.language_model import Context, Feed, LanguageModel, Tokenizer
from rag.generate.prefix_cache import ForkableContext
from rag.generate.turns import Job, Turns

if TYPE_CHECKING:
    import torch


class BatchedModel:
    """A model whose contexts wait for each other, so that it may serve many threads at once."""

    def __init__(self, model: LanguageModel, clock: Callable[[], float] = perf_counter) -> None:
        self._model = model
        self._clock = clock
        self._turns = Turns(model, clock)

    @property
    def name(self) -> str:
        """The name it was asked for by."""
        return self._model.name

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of these weights."""
        return self._model.tokenizer

    @property
    def context_length(self) -> int:
        """The most tokens that a context can hold."""
        return self._model.context_length

    @property
    def vocabulary_size(self) -> int:
        """Width of the logits."""
        return self._model.vocabulary_size

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self._model.eos_ids

    @property
    def n_waiting(self) -> int:
        """Forwards in line."""
        return self._turns.n_waiting

    def open_context(self) -> BatchedContext:
        """A fresh, empty context. Raises `ModelError` for a model whose contexts have no copies."""
        context: Context = self._model.open_context()
        if not isinstance(context, ForkableContext):
            raise ModelError(f"{self.name} has contexts that cannot be copied")
        return BatchedContext(context, self._turns, self._clock)

    def forward_beside(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        """Logits of each feed, of contexts of this model; see `BesideModel`."""
        started = self._clock()
        contexts, wake = [_ours(feed.context) for feed in feeds], threading.Event()
        jobs = [
            context.job(feed.token_ids, last_only=feed.last_only, wake=wake)
            for context, feed in zip(contexts, feeds, strict=True)
        ]
        logits = self._turns.compute_all(jobs)
        waited_s = self._clock() - started - sum(job.share_s for job in jobs)
        for context, job in zip(contexts, jobs, strict=True):
            context.note(job, waited_s)
        return logits


class BatchedContext:
    """One sequence; see `rag.generate.language_model.SharingContext`."""

    def __init__(self, context: ForkableContext, turns: Turns, clock: Callable[[], float]) -> None:
        self._context = context
        self._turns = turns
        self._clock = clock
        self.load = 1
        self.waited_s = 0.0

    @property
    def position(self) -> int:
        """Tokens held in the cache."""
        return self._context.position

    @property
    def n_bytes(self) -> int:
        """Memory that the key-value cache takes."""
        return self._context.n_bytes

    def forward(self, token_ids: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        """Append tokens when it is their turn; float32 logits as of the model's own context."""
        started = self._clock()
        job = self.job(token_ids, last_only=last_only)
        logits = self._turns.compute(job)
        self.note(job, self._clock() - started - job.share_s)
        return logits

    def job(
        self, token_ids: Sequence[int], *, last_only: bool, wake: threading.Event | None = None
    ) -> Job:
        """A forward of this context, to be computed."""
        return Job(self._context, token_ids, last_only, wake)

    def note(self, job: Job, waited_s: float) -> None:
        """A job of this context was computed, after so long a wait for others."""
        self.load = job.load
        self.waited_s += waited_s

    def crop(self, position: int) -> None:
        """Forget every token after the first `position`."""
        self._context.crop(position)

    def fork(self, position: int) -> BatchedContext:
        """A context of its own that holds the first `position` tokens of this one."""
        return BatchedContext(self._context.fork(position), self._turns, self._clock)


def _ours(context: Context) -> BatchedContext:
    if not isinstance(context, BatchedContext):
        raise InvalidInput("this context is another model's")
    return context
