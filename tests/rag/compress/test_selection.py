"""What is always kept, and which force tokens are repeats."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_words import HOSTILE

from rag.compress.compression import Compression
from rag.compress.selection import FORCED, NO_TOKEN, PROTECTED, tiers, touched, without_repeats
from rag.compress.words import Span, plain_words


def chosen(text, options, *protected, tier=FORCED):
    words = plain_words(text)
    found, _ = tiers(text, words, options, [Span(*place) for place in protected])
    return [text[w.start : w.end] for w, own in zip(words, found, strict=True) if own >= tier]


def test_force_tokens_are_whole_words_and_any_punctuation():
    options = Compression(force_tokens=["not", ".", "The answer is"])
    text = "Nothing is not 3.5. The answer is: cannot."
    assert chosen(text, options) == ["not", ".", ".", "The", "answer", "is", "."]


def test_digits_code_and_places():
    text = "call `run(1)` by 1994, x2 ```a b``` `"
    assert chosen(text, Compression(keep_digits=True)) == ["1", "1994", "x2"]
    assert chosen(text, Compression(keep_code=True), tier=PROTECTED) == [
        *"`", "run", *"(1)`", *"```", "a", "b", *"```"
    ]  # fmt: skip
    assert chosen(text, Compression(), (0, 2), (15, 15), tier=PROTECTED) == ["call"]


def test_numbers_of_citations():
    text = "It fell [3], then rose [4, 5–6] by [more] [ 12 ]."
    assert chosen(text, Compression(keep_citations=True), tier=PROTECTED) == [
        *"[3]", "[", "4", ",", "5", "–", "6", "]", "[", "12", "]"
    ]  # fmt: skip


@given(HOSTILE, st.integers(0, 60), st.integers(0, 60))
def test_touched_is_what_overlaps(text, start, end):
    words = plain_words(text)
    slow = [n for n, word in enumerate(words) if max(word.start, start) < min(word.end, end)]
    assert list(touched(words, Span(start, end))) == slow


def slow_without_repeats(kept, tokens):
    """Drop one repeat at a time until there is none."""
    kept = list(kept)
    while True:
        for before, after in pairwise(kept):
            if tokens[after] == tokens[before] != NO_TOKEN:
                kept.remove(after)
                break
        else:
            return kept


@given(st.lists(st.tuples(st.integers(-1, 2), st.booleans()), max_size=30))
def test_repeats_go(rows):
    tokens = [token for token, _ in rows]
    kept = [number for number, (_, flag) in enumerate(rows) if flag]
    assert without_repeats(kept, tokens) == slow_without_repeats(kept, tokens)


@pytest.mark.parametrize("token", ["\n", " "])
def test_a_blank_force_token_is_no_word(token):
    assert chosen("a \n b", Compression(force_tokens=[token])) == []
