"""What pre-training hides."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.train.dupmae.masking import mask_words, visibility

MASK = 4
N_TERMS = 30
CONTINUES = np.arange(N_TERMS) >= 20
"""Tokens from 20 up go on with the word before."""

CLS, SEP = 2, 3
rows = st.lists(st.integers(5, N_TERMS - 1), min_size=1, max_size=40)


@given(st.integers(1, 4), st.integers(2, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_a_row_sees_position_0_always_and_itself_never(n_rows, length, share, seed):
    torch.manual_seed(seed)
    lengths = torch.randint(1, length + 1, (n_rows,))
    mask = torch.arange(length)[None] < lengths[:, None]
    seen = visibility(mask, share)
    assert seen[:, :, 0].all()
    for place in range(1, length):
        assert not seen[:, place, place].any()
    # Past position 0, which is there in every text, padding is not seen.
    assert not (seen & ~mask[:, None, :])[:, :, 1:].any()


def test_about_the_share_asked_for_is_seen_and_each_row_sees_its_own():
    torch.manual_seed(0)
    seen = visibility(torch.ones(8, 100, dtype=torch.bool), 0.5)[:, :, 1:]
    assert abs(seen.float().mean().item() - 0.5) < 0.01
    assert not torch.equal(seen[:, 10, 20:], seen[:, 11, 20:])


@given(rows, st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_whole_words_are_hidden_and_the_rest_stays(body, share, seed):
    row = [CLS, *body, SEP]
    read, places = mask_words(row, CONTINUES, share, MASK, np.random.default_rng(seed))
    assert len(read) == len(row)
    assert 0 not in places
    assert len(row) - 1 not in places
    assert all(read[n] == row[n] for n in range(len(row)) if n not in places)
    # A word goes as a whole: where one continues another, both are hidden or neither.
    for place in range(2, len(row) - 1):
        if CONTINUES[row[place]]:
            assert (place in places) == (place - 1 in places)
    starts = [n for n in range(1, len(row) - 1) if n == 1 or not CONTINUES[row[n]]]
    hidden = [n for n in starts if n in places]
    assert len(hidden) == min(len(starts), max(1, round(share * len(starts))))


def test_four_in_five_hidden_tokens_become_the_mask():
    generator = np.random.default_rng(1)
    row = [CLS, *[7] * 400, SEP]
    masked = kept = n_hidden = 0
    for _ in range(20):
        read, places = mask_words(row, CONTINUES, 0.3, MASK, generator)
        n_hidden += len(places)
        masked += sum(read[n] == MASK for n in places)
        kept += sum(read[n] == 7 for n in places)
    assert n_hidden == 20 * 120
    assert abs(masked / n_hidden - 0.8) < 0.03
    assert abs(kept / n_hidden - 0.1) < 0.03
