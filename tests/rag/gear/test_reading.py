"""Windows of tokens: every token has its sentence and its place, whatever the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_gear import save_base

from indexes.sentences import sentence_spans
from rag.gear.reading import NOBODY, GearTokens

TEXTS = [
    "",
    "   ",
    "word",
    "no sentence end here at all",
    "One. Two! Three? Four.",
    "鲸鱼是哺乳动物。企鹅不会飞。",
    "سمكة. قطة. لا.",
    "a" * 200,
    "e\u0301e\u0301 \u0645\u0631 🙂🙂. \u200bx.\x00y",
    "A \ud800 alone. \ud83d\ude00 in halves.",
    "One is short. " + "two " * 80 + ". Three is short too.",
]


@pytest.fixture(scope="module")
def tokens(base):
    return GearTokens(base)


def check(tokens: GearTokens, title: str, text: str, max_tokens: int) -> None:
    read = tokens.read(title, text, max_tokens)
    assert read.sentences == sentence_spans(text)
    seen = []
    for window in read.windows:
        assert len(window.ids) == len(window.owners) == len(window.places) <= max_tokens
        assert (window.ids[0], window.ids[-1]) == (tokens.first, tokens.last)
        for owner, (start, end) in zip(window.owners, window.places, strict=True):
            assert 0 <= start <= end <= len(text)
            if owner != NOBODY:
                first, last = read.sentences[owner]
                # What the tokenizer drops may part two sentences: then a token reaches into both.
                assert first <= start < min(end, last)
                seen.append((start, end))
    # Windows one after the other are the whole text, each token once.
    assert seen == sorted(seen)
    whole = tokens.read("", text, 10**6).windows[0]
    assert len(seen) == sum(owner != NOBODY for owner in whole.owners)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("max_tokens", [16, 32, 512])
def test_every_token_is_in_its_sentence(tokens, text, max_tokens):
    check(tokens, "", text, max_tokens)
    check(tokens, "a title", text, max_tokens)


@given(text=st.text(max_size=300), title=st.text(max_size=60), max_tokens=st.integers(16, 80))
def test_every_token_is_in_its_sentence_in_any_text(tmp_tokens, text, title, max_tokens):
    check(tmp_tokens, title, text, max_tokens)


@pytest.fixture(scope="session")
def tmp_tokens(tmp_path_factory):
    return GearTokens(save_base(tmp_path_factory.mktemp("property")))


def test_windows_are_cut_between_sentences_where_that_goes(tokens):
    text = "ab ab ab. " * 9
    read = tokens.read("", text.strip(), 32)
    assert len(read.windows) > 1
    for window in read.windows:
        owned = [owner for owner in window.owners if owner != NOBODY]
        whole = [number for number in set(owned) if owned.count(number) == owned.count(owned[0])]
        assert sorted(set(owned)) == sorted(whole)


def test_a_text_that_fits_is_read_as_retrieval_reads_it(tokens):
    (window,) = tokens.read("a title", "some text. more.", 64).windows
    assert window.ids == tokens.question("a title some text. more.", 64).ids


def test_a_long_question_is_cut_and_said_to_be(tokens):
    short, long = tokens.question("abc", 8), tokens.question("abc " * 9, 8)
    assert (short.truncated, long.truncated) == (False, True)
    assert len(long.ids) == 8
    assert long.ids[-1] == tokens.last
