"""Constraints worked out in a thread of their own, and the model going on meanwhile.

What may come next is found out while the model computes the logits that it masks. Where it is not
known by then, since a monitor waits for an answer, the model goes on with the token that it would
choose if all were legal: it is right nine times in ten. Such a token is a draft with q one-hot,
judged like any other, so it changes neither the text nor what a seed gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from rag.generate.constraint import ConstraintTrack
from rag.generate.distribution import usable_best_ids
from rag.generate.language_model import Context
from rag.generate.prefill import Watch
from rag.generate.sampler import Rows
from rag.models.torch_runtime import threads_here

if TYPE_CHECKING:
    import torch

AHEAD_TOKENS = 16
"""So far the model goes on without knowing whether it may."""

SOON_S = 0.001
"""A verdict that needs no answer is there by then; a forward takes longer."""


class Judge:
    """Owns the thread, in which the track is kept up; the decoding one may use it while `knows()`.

    `waited_s` is the time that the decoding thread was held up, or went on without knowing.
    """

    def __init__(self, track: ConstraintTrack, clock: Callable[[], float]) -> None:
        self._track = track
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "constraints")
        self._n_known = -1
        self.waited_s = 0.0
        self._work: Future[None] = self._thread.submit(self._prepare)

    def follow(self, n_tokens: int, token_ids: Sequence[int]) -> None:
        """Begin to work out what may come after the first `n_tokens` of the track and these."""
        self._work = self._thread.submit(self._advance, n_tokens, tuple(token_ids))

    def knows(self) -> bool:
        """Whether it is known, within a moment, what may come after all tokens of the track.

        If not, it will be. Raises what working it out raised.
        """
        if self._work.done():
            self._work.result()
            if self._n_known != self._track.n_tokens:
                self._work = self._thread.submit(self._prepare)
        return _is_done(self._work, SOON_S)

    def token(self, rows: Rows, row: int, go_on: Callable[[Future[int]], None]) -> int:
        """`rows.token(row)`; while it is not known `go_on` may compute, until the future is done.

        Raises what either raised.
        """
        choose = rows.token
        if self._work.done():
            self._work.result()
            token_id = rows.sure_token(row)
            if token_id is not None:
                return token_id
            choose = rows.settled_token
        began = self._clock()
        # Where an answer is waited for already it takes longer than a moment.
        is_asked = not self._work.done()
        verdict = self._thread.submit(_after, self._work, choose, row)
        if is_asked or not _is_done(verdict, SOON_S):
            go_on(verdict)
        token_id = verdict.result()
        self.waited_s += self._clock() - began
        return token_id

    def close(self) -> None:
        """End the thread once it has its answer; nobody waits for it."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _advance(self, n_tokens: int, token_ids: Sequence[int]) -> None:
        self._track.follow(n_tokens, token_ids)
        self._prepare()

    def _prepare(self) -> None:
        with threads_here(1):
            self._track.prepare()
        self._n_known = self._track.n_tokens


class Ahead:
    """Guesses that a context has been fed, beyond the tokens that are certain, and their logits."""

    def __init__(self, context: Context, eos_ids: frozenset[int], watch: Watch) -> None:
        self._context = context
        self._eos_ids = eos_ids
        self._watch = watch
        self._guesses: list[int] = []
        self._rows: list[torch.Tensor] = []

    def go_on(self, last: torch.Tensor, room: int, verdict: Future[int]) -> None:
        """Guess and feed until the verdict is there; `last` are the logits of what is certain.

        At most `room` guesses in all. Raises `DeadlineExceeded`.
        """
        most = min(room, AHEAD_TOKENS)
        while not verdict.done() and len(self._rows) < most and not self._watch.cancelled():
            guess = usable_best_ids((self._rows[-1] if self._rows else last)[None])[0]
            if guess in self._eos_ids:
                return
            self._guesses.append(guess)
            self._rows.append(self._context.forward([guess])[-1])

    def follow(self, token_id: int) -> torch.Tensor | None:
        """Logits `[1, vocabulary]` after one more certain token, if that was the guess.

        If not, all guesses are forgotten, and the context is cropped by whoever feeds it next.
        """
        if not self._guesses or self._guesses.pop(0) != token_id:
            self._guesses, self._rows = [], []
            return None
        return self._rows.pop(0)[None]


def _after(work: Future[None], choose: Callable[[int], int], row: int) -> int:
    """`choose(row)`, once the work is done. Raises what it raised."""
    work.result()
    with threads_here(1):
        return choose(row)


def _is_done(work: Future[Any], within_s: float) -> bool:
    """Raises what the work raised."""
    try:
        error = work.exception(within_s)
    except TimeoutError:
        return False
    if error is not None:
        raise error
    return True
