"""The search for the number of words against a scan of all numbers."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rag.compress.budget import MAX_TRIES, PROMISE, SLACK, fill, fit

COSTS = st.lists(st.one_of(st.integers(0, 4), st.integers(0, 60)), max_size=80)


@given(COSTS, st.integers(0, 400))
def test_fit_is_the_scan_but_for_the_slack(costs, budget):
    totals = [0, *accumulate(costs)]
    counted = []

    def count(k):
        counted.append(k)
        return totals[k]

    k = fit(len(costs), count, budget, totals[-1])
    best = max(k for k, total in enumerate(totals) if total <= budget)
    assert totals[k] <= budget
    assert k == best or totals[k] == totals[best] or totals[k] >= (1 - SLACK) * budget
    assert len(counted) <= 2 * max(1, len(costs)).bit_length() + 1


def test_even_costs_take_few_counts():
    counted = []

    def count(k):
        counted.append(k)
        return round(1.3 * k)

    assert abs(round(1.3 * fit(10_000, count, 4_321, 13_000)) - 4_321) <= SLACK * 4_321
    assert len(counted) <= 3


@given(COSTS, st.integers(0, 400), st.randoms())
def test_fill_adds_what_still_fits(costs, budget, random):
    order = list(range(len(costs)))
    random.shuffle(order)
    order = np.array(order, dtype=np.int64)

    def count(numbers):
        return sum(costs[number] for number in numbers)

    n_words = fit(len(order), lambda k: count(order[:k]), budget, sum(costs))
    found = fill(order, n_words, count, budget)
    assert list(found[:n_words]) == list(order[:n_words])
    assert count(found) <= budget
    if count(found) < (1 - PROMISE) * budget and n_words < len(costs):
        skipped = set(order[n_words + 1 : n_words + 1 + MAX_TRIES]) - set(found)
        assert all(count(found) + costs[number] > budget for number in skipped)
