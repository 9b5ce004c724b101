"""Long texts in pieces that a model can read, cut where sentences end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence


def chunk_bounds(
    n_tokens: int, max_tokens: int, sentence_ends: Sequence[int], word_starts: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Pieces [first, last) of at most `max_tokens` tokens that together are all of them.

    A piece ends at the last of `sentence_ends` (numbers of the tokens that follow one, ascending)
    that it can reach, else before the last of `word_starts`, else in the middle of a word.
    """
    first = 0
    while n_tokens - first > max_tokens:
        reach = first + max_tokens
        last = _last_within(sentence_ends, first, reach) or _last_within(word_starts, first, reach)
        last = last or reach
        yield first, last
        first = last
    if first < n_tokens:
        yield first, n_tokens


def _last_within(places: Sequence[int], first: int, reach: int) -> int | None:
    """The last of `places` in (first, reach]."""
    at = bisect_left(places, reach + 1) - 1
    return places[at] if at >= 0 and places[at] > first else None
