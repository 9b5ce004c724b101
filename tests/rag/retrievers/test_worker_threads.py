"""Work shared out: same results in the same order, and torch's own threads left as they were."""

from __future__ import annotations

import threading

import pytest
import torch

from rag.retrievers.worker_threads import WorkerThreads


def test_results_come_in_order_from_threads_that_compute_alone():
    before = torch.get_num_threads()
    workers = WorkerThreads(3)
    met = threading.Barrier(3, timeout=20)

    def work(number: int) -> tuple[int, int, int]:
        if number < 3:
            met.wait()  # three at once, or this never passes
        return number, torch.get_num_threads(), threading.get_ident()

    found = list(workers.map(work, range(10)))
    assert [number for number, _, _ in found] == list(range(10))
    assert {n_threads for _, n_threads, _ in found} == {1}
    assert len({ident for _, _, ident in found[:3]}) == 3
    assert torch.get_num_threads() == before
    seen: list[int] = []
    fresh = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert seen == [before]


@pytest.mark.parametrize(("n_threads", "n_jobs"), [(1, 4), (4, 1)])
def test_nothing_to_share_is_done_here(n_threads, n_jobs):
    here = threading.get_ident()
    work = WorkerThreads(n_threads).map(lambda _: threading.get_ident(), range(n_jobs))
    assert set(work) == {here}


def test_an_error_reaches_the_caller():
    def fail(number: int) -> float:
        return 1 / (number - 2)

    with pytest.raises(ZeroDivisionError):
        list(WorkerThreads(2).map(fail, range(5)))
