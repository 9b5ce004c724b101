"""Words hold every character but white space, and never cut a visible one in two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.compress.words import plain_words, tidy

HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(list("a.,'- \n\t\u00a0\u0301\u200d\u200b\ufe0f🏽👩🚀🇫🇷我한أ\ufffd\x00`9")),
    ),
    max_size=60,
)


def check_words(text, words):
    """Ordered, disjoint, bare at both ends, and together all that is no white space."""
    at = 0
    for start, end in words:
        assert at <= start < end
        assert not text[at:start].strip()
        assert text[start:end] == text[start:end].strip()
        at = end
    assert not text[at:].strip()


@given(HOSTILE)
def test_plain_words_hold_every_character(text):
    check_words(text, plain_words(text))


@given(HOSTILE, st.data())
def test_any_starts_become_words_that_hold_every_character(text, data):
    places = st.lists(st.integers(0, max(0, len(text) - 1)), max_size=20)
    starts = sorted(data.draw(places)) if text else []
    words = tidy(text, starts)
    check_words(text, words)
    begun = {0, *starts}
    for start, _ in words:
        behind = start - len(text[:start]) + len(text[:start].rstrip())
        assert begun & set(range(behind, start + 1)) or not text[:start].strip()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It wasn't 3.5%.", ["It", "wasn't", "3", ".", "5", "%", "."]),
        ("cafe\u0301 नमस्ते", ["cafe\u0301", "नमस्ते"]),
        ("go 👩\u200d🚀👍🏽 🇫🇷", ["go", "👩\u200d🚀", "👍🏽", "🇫🇷"]),
        ("#\ufe0f\u20e3 ok", ["#\ufe0f\u20e3", "ok"]),
        ("我们 한국어", ["我", "们", "한국어"]),
        ("السلام عليكم", ["السلام", "عليكم"]),
        ("", []),
        (" \n", []),
    ],
)
def test_plain_words(text, words):
    assert [text[start:end] for start, end in plain_words(text)] == words
