"""Batches keep the budget, lose nothing, and waste little."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from rag.retrievers.batching import padding_share, token_batches

lengths = st.lists(st.integers(1, 300), max_size=200)


@given(lengths, st.integers(1, 2000))
def test_every_text_once_within_the_budget(lengths, budget):
    batches = list(token_batches(lengths, budget))
    assert sorted(p for batch in batches for p in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[p] for p in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget


def test_sorting_by_length_wastes_far_less_than_arrival_order():
    lengths = random.Random(3).choices(range(10, 250), k=512)
    arrival = [list(range(at, at + 32)) for at in range(0, 512, 32)]
    assert padding_share(lengths, list(token_batches(lengths, 4096))) < 0.06
    assert padding_share(lengths, arrival) > 0.4
