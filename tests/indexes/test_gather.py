"""Calls gathered from threads get what each would get alone, and no seat is ever lost."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexes.gather import Gather


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    items=st.lists(st.integers(-5, 50), min_size=1, max_size=60),
    n_seats=st.integers(1, 3),
    max_batch=st.integers(1, 8),
    n_threads=st.integers(1, 8),
)
def test_each_gets_its_own_result_or_error(items, n_seats, max_batch, n_threads):
    running, most, sizes = [], [], []

    def work(batch):
        running.append(1)
        most.append(len(running))
        try:
            if any(item < 0 for item in batch):
                raise ValueError(str(batch))
            time.sleep(0.0005)
            return [item * item for item in batch]
        finally:
            running.pop()

    gather = Gather(work, n_seats=n_seats, max_batch=max_batch, sizes=sizes.append)

    def ask(item):
        try:
            return gather.compute(item)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(n_threads) as pool:
        found = list(pool.map(ask, items))
    assert found == [item * item if item >= 0 else f"[{item}]" for item in items]
    assert max(most) <= n_seats
    assert max(sizes) <= max_batch
    # All seats are free again: as many can compute at once as at the beginning.
    assert gather._free == n_seats


def test_those_who_come_meanwhile_are_computed_together():
    entered, go = threading.Event(), threading.Event()
    batches = []

    def work(batch):
        batches.append(list(batch))
        entered.set()
        assert go.wait(10)
        return batch

    gather = Gather(work)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(gather.compute, 0)
        assert entered.wait(10)
        others = [pool.submit(gather.compute, number) for number in range(1, 6)]
        while len(gather._waiting) < 5:
            time.sleep(0.001)
        go.set()
        assert [one.result() for one in (first, *others)] == list(range(6))
    assert [len(batch) for batch in batches] == [1, 5]


def test_an_interrupt_is_told_to_all_and_the_seat_is_given_back():
    def work(batch):
        raise KeyboardInterrupt

    gather = Gather(work)
    with pytest.raises(KeyboardInterrupt):
        gather.compute(1)
    assert gather._free == 1
