"""Who pays for a batch: shares add up, and a token more is charged what it costs."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generate.batch_cost import BatchCost

BATCHES = st.lists(
    st.tuples(st.floats(1e-4, 10), st.lists(st.integers(1, 16), min_size=1, max_size=20)),
    min_size=1,
    max_size=30,
)


@given(BATCHES)
def test_shares_add_up_and_nobody_is_paid(batches: list[tuple[float, list[int]]]) -> None:
    cost = BatchCost()
    for seconds, n_tokens in batches:
        shares = cost.shares(seconds, n_tokens)
        assert sum(shares) == pytest.approx(seconds)
        assert min(shares) >= -1e-9 * seconds
        by_length = sorted(zip(n_tokens, shares, strict=True))
        assert all(a[1] <= b[1] + 1e-9 for a, b in itertools.pairwise(by_length))


def test_one_alone_pays_all() -> None:
    assert BatchCost().shares(3.0, [7]) == [3.0]


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.5, 1.0])
def test_the_slope_is_found_in_spite_of_noise(slope: float) -> None:
    """A sequence costs one second, a token more `slope`; times are 10 % off either way."""
    cost, draw = BatchCost(), random.Random(4)
    for _ in range(300):
        n_tokens = [draw.choice((1, 1, 1, 5)) for _ in range(16)]
        seconds = (16 + slope * (sum(n_tokens) - 16)) * draw.uniform(0.9, 1.1)
        cost.shares(seconds, n_tokens)
    drafted, plain = cost.shares(16 + slope * 4, [5, *[1] * 15])[:2]
    assert (drafted - plain) / 4 == pytest.approx(slope, abs=0.12)


def test_before_anything_is_known_tokens_are_what_counts() -> None:
    assert BatchCost().shares(8.0, [1, 3]) == pytest.approx([2.0, 6.0])


def test_loads_do_not_mix() -> None:
    cost = BatchCost()
    for n in range(200):
        cost.shares(8 + 0.1 * (n % 3), [1 + n % 3, *[1] * 7])
    before = cost.shares(8.2, [3, *[1] * 7])
    for n in range(200):
        cost.shares(2.0 + n % 3, [1 + n % 3, 1])
    assert cost.shares(8.2, [3, *[1] * 7]) == pytest.approx(before, rel=0.02)
