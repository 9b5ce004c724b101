"""The same work asked for by several threads at once, done together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_BATCH = 32


class _Call(Generic[Item, Result]):
    """One item that a thread waits for."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.results: list[Result] = []
        self.error: BaseException | None = None
        self.wake = threading.Event()
        self.batch: list[_Call[Item, Result]] = []

    def result(self) -> Result:
        if self.error is not None:
            raise self.error
        return self.results[0]


class Gather(Generic[Item, Result]):
    """Gathers items into batches for `work`, which returns one result for each, in their order.

    No timer and no thread of its own: who finds a free seat computes at once, alone. Those that
    come while all `n_seats` are taken wait, and the first of them computes for all that wait, up
    to `max_batch`, when a seat is free. So an idle service adds no delay, and the batches grow
    with the load. `sizes` is told the size of each batch.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        n_seats: int = 1,
        max_batch: int = MAX_BATCH,
        sizes: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._work = work
        self._free = n_seats
        self._max_batch = max_batch
        self._sizes = sizes
        self._waiting: list[_Call[Item, Result]] = []
        self._lock = threading.Lock()

    def compute(self, item: Item) -> Result:
        """The item's result, computed by this thread or another; raises what that raised."""
        call = _Call[Item, Result](item)
        with self._lock:
            if self._free:
                self._free -= 1
                call.batch = [call]
            else:
                self._waiting.append(call)
        if not call.batch:
            call.wake.wait()
        if call.batch:
            self._lead(call.batch)
        return call.result()

    def _lead(self, batch: Sequence[_Call[Item, Result]]) -> None:
        """Compute the batch, then give the seat to the first that waits, with what it shall do."""
        try:
            self._run(batch)
        finally:
            with self._lock:
                following = self._waiting[: self._max_batch]
                del self._waiting[: len(following)]
                if following:
                    following[0].batch = following
                    following[0].wake.set()
                else:
                    self._free += 1

    def _run(self, batch: Sequence[_Call[Item, Result]]) -> None:
        """Fill in the results; what fails together is tried one by one: it is one item's fault."""
        try:
            self._sizes(len(batch))
            for call, result in zip(batch, self._work([c.item for c in batch]), strict=True):
                call.results.append(result)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is its caller's
            if len(batch) == 1:
                batch[0].error = error
            else:
                for call in batch:
                    call.results.clear()
                    self._run([call])
        except BaseException as error:
            for call in batch:
                call.error = error
            raise
        finally:
            for call in batch:
                call.wake.set()
