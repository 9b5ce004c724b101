"""Threads in which requests of one kind compute, so that the event loop never does."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from litestar.exceptions import TooManyRequestsException

from indexes.errors import DeadlineExceeded
from rag.stopwatch import ARRIVED

T = TypeVar("T")


class Lane:
    """Owns `n_threads` threads and the line of at most `max_queue` requests before them.

    `on_change` is called in the event loop after each arrival and end.
    """

    def __init__(self, name: str, n_threads: int, max_queue: int) -> None:
        self.name = name
        self._n_threads = n_threads
        self._max_queue = max_queue
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
        self._n_taken = 0
        self.on_change: Callable[[Lane], None] = lambda _: None

    @property
    def n_running(self) -> int:
        """Requests that compute."""
        return min(self._n_taken, self._n_threads)

    @property
    def n_queued(self) -> int:
        """Requests that wait for a thread."""
        return self._n_taken - self.n_running

    async def run(self, work: Callable[[], T], timeout_ms: int | None = None) -> T:
        """Run `work` in a thread, in this context; the clocks in it run from now on.

        Work still queued when its caller is cancelled is dropped. Raises HTTP's 429 when the line
        is full: more would only wait longer. Raises `DeadlineExceeded` as soon as the time is up
        for work that has not begun; what has begun keeps its deadline itself.
        """
        if self._n_taken >= self._n_threads + self._max_queue:
            raise TooManyRequestsException(
                detail="too many requests are waiting", headers={"Retry-After": "1"}
            )
        context = contextvars.copy_context()
        context.run(ARRIVED.set, time.monotonic())
        loop = asyncio.get_running_loop()
        self._count(1)
        future = self._threads.submit(context.run, work)
        future.add_done_callback(lambda _: self._leave_in(loop))
        return await _in_time(future, timeout_ms)

    def shut(self) -> None:
        """Wait for running work, drop what is queued."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _leave_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called by whichever thread ended or dropped the work."""
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._count, -1)

    def _count(self, change: int) -> None:
        self._n_taken += change
        self.on_change(self)


async def _in_time(future: Future[T], timeout_ms: int | None) -> T:
    waiting = asyncio.wrap_future(future)
    if timeout_ms is not None:
        try:
            await asyncio.wait([waiting], timeout=timeout_ms / 1000)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if not waiting.done() and future.cancel():
            raise DeadlineExceeded(f"the {timeout_ms} ms ran out before it was this request's turn")
    return await waiting
