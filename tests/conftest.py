"""Property tests: `make check` tries fewer examples of each. Growth: measured one way for all."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import settings

settings.register_profile("fast", max_examples=20)

TIMES_AS_MUCH = 16


@pytest.fixture
def grows_linearly() -> Callable[[Callable[[int], object], int], None]:
    """`grows_linearly(work, size)` fails where `work` of 16 times the size takes 64 times as long.

    Linear work takes 16 times, quadratic work 256: a busy machine would have to slow one of the two
    down by four, three times in turn, to be taken for a fault.
    """
    return _grows_linearly


def _grows_linearly(work: Callable[[int], object], size: int) -> None:
    least = {size: float("inf"), TIMES_AS_MUCH * size: float("inf")}
    for _ in range(3):
        for one in least:
            began = time.process_time()
            work(one)
            least[one] = min(least[one], time.process_time() - began)
    small, large = least.values()
    # Below a millisecond the clock and the call itself are what is measured.
    assert large < 4 * TIMES_AS_MUCH * max(small, 1e-3)
