"""Whose forward is computed next, and by which of the threads that wait for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from indexes.errors import ModelError
from rag.generate.batch_cost import BatchCost
from rag.generate.language_model import Context, Feed, LanguageModel, TogetherModel
from rag.models.decoder_graph import SPARE_TOKENS

if TYPE_CHECKING:
    import torch

STEP_TOKENS = SPARE_TOKENS
"""A forward of at most so many tokens is a step: one token, or one with a draft."""

PIECE_TOKENS = 64
"""A prompt's piece while others decode: it takes about as long as a batch of sixteen steps."""


class Job:
    """One forward that a thread waits for; one that it waits for with others has their `wake`."""

    def __init__(
        self,
        context: Context,
        token_ids: Sequence[int],
        last_only: bool,
        wake: threading.Event | None = None,
    ) -> None:
        self.context = context
        self.left = token_ids
        self.last_only = last_only
        self.logits: torch.Tensor | None = None
        self.error: Exception | None = None
        self.load = 1
        self.share_s = 0.0
        self.wake = wake or threading.Event()

    @property
    def done(self) -> bool:
        """Whether nothing is left to compute."""
        return self.logits is not None or self.error is not None

    @property
    def is_step(self) -> bool:
        """Whether it is short enough to be batched."""
        return len(self.left) <= STEP_TOKENS

    def result(self) -> torch.Tensor:
        """The logits; raises what computing them raised."""
        if self.error is not None:
            raise self.error
        if self.logits is None:
            raise ModelError("a forward was left undone")
        return self.logits


class Turns:
    """Computes the jobs of many threads: batches of steps in turn with prompts, first come first.

    It has no thread of its own. One of those that wait leads until its own jobs are done, and wakes
    the next; so nobody computes for others when he could go on, and nobody is left waiting.
    """

    def __init__(self, model: LanguageModel, clock: Callable[[], float]) -> None:
        self._together = model if isinstance(model, TogetherModel) else None
        self._clock = clock
        self._cost = BatchCost()
        self._lock = threading.Lock()
        self._waiting: list[Job] = []
        self._leader: Job | None = None
        self._steps_ran = False
        self._fed: set[int] = set()
        self._stepped: deque[set[int]] = deque(maxlen=2)

    @property
    def n_waiting(self) -> int:
        """Jobs in line, those not counted that are being computed."""
        with self._lock:
            return len(self._waiting)

    def compute(self, job: Job) -> torch.Tensor:
        """The job's logits, computed by this thread or another; raises what that raised."""
        return self.compute_all([job])[0]

    def compute_all(self, jobs: Sequence[Job]) -> list[torch.Tensor]:
        """The logits of jobs of one thread, which share their `wake`; in one run if they can be."""
        wake = jobs[0].wake
        with self._lock:
            self._waiting += jobs
            if self._leader is None:
                self._leader = jobs[0]
        try:
            while not all(job.done for job in jobs):
                if self._leader in jobs:
                    self._take_turn()
                else:
                    wake.wait()
                    wake.clear()
        finally:
            self._leave(jobs)
        return [job.result() for job in jobs]

    def _leave(self, jobs: Sequence[Job]) -> None:
        """Hand on the lead, if one of the jobs has it, and take back what was interrupted."""
        with self._lock:
            self._waiting = [job for job in self._waiting if job not in jobs]
            if self._leader in jobs:
                self._leader = self._waiting[0] if self._waiting else None
                if self._leader is not None:
                    self._leader.wake.set()

    def _take_turn(self) -> None:
        with self._lock:
            jobs, n_tokens = self._next_jobs()
        try:
            self._run(jobs, n_tokens)
        finally:
            self._fed = {id(job.context) for job in jobs if job.done}
            for job in jobs:
                if job.done:
                    job.wake.set()
                else:
                    with self._lock:
                        self._waiting.insert(0, job)

    def _next_jobs(self) -> tuple[list[Job], int]:
        """What is computed next, and how many tokens of it at most."""
        steps = [job for job in self._waiting if job.is_step]
        prompts = [job for job in self._waiting if not job.is_step]
        if steps and not (prompts and self._steps_ran):
            jobs, n_tokens = steps if self._together else steps[:1], STEP_TOKENS
        else:
            jobs, n_tokens = prompts[:1], len(prompts[0].left)
            # Whoever was just given a token will be back at once: he should not wait for long.
            if prompts[0].last_only and (steps or self._fed - {id(prompts[0].context)}):
                n_tokens = PIECE_TOKENS
        self._steps_ran = jobs[0].is_step
        for job in jobs:
            self._waiting.remove(job)
        if self._steps_ran:
            self._note_load(jobs)
        return jobs, n_tokens

    def _note_load(self, jobs: Sequence[Job]) -> None:
        """Streams fall into two batches, one that computes and one that waits: count both."""
        self._stepped.append({id(job.context) for job in jobs})
        load = len(set().union(*self._stepped))
        for job in jobs:
            job.load = load

    def _run(self, jobs: Sequence[Job], n_tokens: int) -> None:
        """Compute the jobs' first `n_tokens`; what fails together is tried one by one."""
        feeds = [Feed(job.context, job.left[:n_tokens], job.last_only) for job in jobs]
        started = self._clock()
        try:
            if self._together and len(feeds) > 1:
                alone = len({id(job.wake) for job in jobs}) == 1
                logits = self._together.forward_together(feeds, exact=alone)
            else:
                logits = [context.forward(ids, last_only=last) for context, ids, last in feeds]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is its request's
            if len(jobs) == 1:
                jobs[0].error = error
            else:
                for job in jobs:
                    self._run([job], n_tokens)
            return
        except BaseException:
            for job in jobs:
                job.error = ModelError("the thread that computed this was interrupted")
            raise
        seconds = self._clock() - started
        shares = self._cost.shares(seconds, [len(feed.token_ids) for feed in feeds])
        for job, share_s, found in zip(jobs, shares, logits, strict=True):
            job.share_s += share_s
            job.left = job.left[n_tokens:]
            if not job.left:
                job.logits = found
