"""Batches side by side, each computed by one thread.

torch splits every operation over all threads and waits for the slowest at its end: thousands of
waits a second where operations are small, and each costs a time slice when the machine has other
work. Whole batches instead need no waiting, and their data stays in one core's cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

LOAD = Path("/proc/loadavg")
"""Where Linux says how many threads run or want to."""

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerThreads:
    """Owns `n_threads` threads in which torch computes alone; they start when first needed."""

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._pool = ThreadPoolExecutor(n_threads, "encode", _compute_alone)

    def map(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Results in the jobs' order. One job alone is done here, with all of torch's threads."""
        if len(jobs) < 2 or self.n_threads < 2:
            return map(work, jobs)
        return self._pool.map(work, jobs)

    def beside(self, work: Callable[[Job], Result], job: Job) -> Result:
        """One job by one thread, while others do theirs; waits for it."""
        if self.n_threads < 2:
            return work(job)
        return self._pool.submit(work, job).result()


def crowded(n_threads: int) -> bool:
    """Whether more threads than these want the machine's cores now; False where nobody says.

    Threads that compute together are as slow as the one that is waiting for a core.
    """
    try:
        runnable = LOAD.read_text(encoding="ascii").split()[3].partition("/")[0]
    except OSError:
        return False
    return int(runnable) > n_threads


def threads_for(device: str) -> int:
    """How many threads torch computes with on this device; a GPU is fed by one."""
    import torch

    return torch.get_num_threads() if device == "cpu" else 1


def _compute_alone() -> None:
    """Let this thread's torch operations use one thread, and no other's."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # The number is the thread's own, but it is also what new threads begin with: a passing
    # thread puts that back.
    restore = threading.Thread(target=torch.set_num_threads, args=(n_threads,))
    restore.start()
    restore.join()
