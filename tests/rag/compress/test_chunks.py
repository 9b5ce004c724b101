"""Pieces of a long text against the rule spelled out token by token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rag.compress.chunks import chunk_bounds


def slow(n_tokens, max_tokens, sentence_ends, word_starts):
    found, first = [], 0
    while first < n_tokens:
        last = first + max_tokens
        if last >= n_tokens:
            last = n_tokens
        else:
            for places in (sentence_ends, word_starts):
                there = [place for place in places if first < place <= first + max_tokens]
                if there:
                    last = max(there)
                    break
        found.append((first, last))
        first = last
    return found


@given(st.data())
def test_pieces_end_at_sentences_then_words(data):
    n_tokens = data.draw(st.integers(0, 60))
    max_tokens = data.draw(st.integers(1, 20))
    places = st.sets(st.integers(0, n_tokens)).map(sorted)
    sentence_ends, word_starts = data.draw(places), data.draw(places)
    found = list(chunk_bounds(n_tokens, max_tokens, sentence_ends, word_starts))
    assert found == slow(n_tokens, max_tokens, sentence_ends, word_starts)
    assert [token for first, last in found for token in range(first, last)] == list(range(n_tokens))
    assert all(last - first <= max_tokens for first, last in found)
