"""The text that is left is made of slices of the source, and every slice knows its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_words import HOSTILE

from rag.compress.kept_text import keep_words
from rag.compress.words import plain_words


@given(HOSTILE, st.data(), st.booleans())
def test_slices_of_the_source_in_order(text, data, line_breaks):
    words = plain_words(text)
    flags = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    numbers = [number for number, flag in enumerate(flags) if flag]
    kept = keep_words(text, words, numbers, line_breaks=line_breaks)
    before = source_before = 0
    for one in kept.stretches:
        assert before <= one.start < one.end
        assert source_before <= one.source_start
        assert kept.text[one.start : one.end] == text[one.source_start : one.source_end]
        assert kept.text[before : one.start] in ("", " ", "\n")
        before, source_before = one.end, one.source_end
    assert before == len(kept.text)
    inside = [
        any(one.source_start <= start and end <= one.source_end for one in kept.stretches)
        for start, end in words
    ]
    assert inside == flags


@pytest.mark.parametrize(
    ("text", "numbers", "left"),
    [
        ("a b\n\nc d", [0, 1, 2], "a b\n\nc"),
        ("a b\n\nc d", [0, 3], "a d"),
        ("  a b ", [0, 1], "  a b "),
        ("我们今天去", [0, 1, 3], "我们天"),
        ("ab-cd", [0, 2], "ab cd"),
        ("a b", [], ""),
    ],
)
def test_what_parts_the_words(text, numbers, left):
    assert keep_words(text, plain_words(text), numbers).text == left


def test_line_breaks_stay_where_they_are_asked_for():
    text = "one two\nthree four"
    kept = keep_words(text, plain_words(text), [0, 2], line_breaks=True)
    assert kept.text == "one\nthree"
