"""Passages: bounds, cover, cuts between sentences."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from indexes.passages import PassageConfig, n_words, passage_spans
from indexes.scripts import UNSPACED
from indexes.sentences import sentence_spans

GrowsLinearly = Callable[[Callable[[int], object], int], None]


def cut(text: str, max_words: int, overlap_sentences: int = 0) -> list[str]:
    config = PassageConfig(max_words, overlap_sentences)
    return [text[start:end] for start, end in passage_spans(text, config)]


def n_words_slowly(text: str) -> int:
    """Walk the text: runs without spaces by 32 characters, unspaced scripts by pairs of letters."""
    unspaced = regex.compile(UNSPACED, regex.VERSION1)
    count = run = pair = 0
    for cluster in regex.findall(rf"{UNSPACED}\p{{M}}*+|(?s:.)", text, regex.VERSION1):
        if cluster.isspace():
            run = pair = 0
        elif unspaced.match(cluster):
            run, pair = 0, pair % 2 + 1
            count += pair == 1
        else:
            run, pair = run % 32 + 1, 0
            count += run == 1
    return count


def test_a_short_text_is_one_passage() -> None:
    assert cut("  One two. Three four.\n", 4) == ["One two. Three four."]
    assert cut("One two. Three four.", 3) == ["One two.", "Three four."]


@pytest.mark.parametrize("text", ["", " ", "\n\u3000\t"])
def test_a_blank_text_has_no_passage(text: str) -> None:
    assert passage_spans(text, PassageConfig()) == []


def test_zero_never_cuts() -> None:
    text = "A sentence. " * 1000
    assert cut(text, 0) == [text.strip()]


def test_passages_come_out_even() -> None:
    text = "Ten words make up this one sentence of the test. " * 31
    assert [n_words(passage) for passage in cut(text, 300)] == [160, 150]


def test_a_long_sentence_is_cut_between_words() -> None:
    text = "one two three four five six seven"
    assert cut(text, 3) == ["one two three", "four five six", "seven"]
    assert cut("x" * 100, 2) == ["x" * 64, "x" * 36]


def test_unspaced_scripts_count_two_characters_a_word() -> None:
    assert cut("一二三四五六七八", 2) == ["一二三四", "五六七八"]
    assert n_words("ที่นี่มี") == 2  # three letters, each with marks
    assert cut("一二三。四五六。", 3) == ["一二三。", "四五六。"]


def test_overlap_repeats_sentences_as_far_as_they_fit() -> None:
    text = "A one. B two. C three. D four."
    assert cut(text, 4, 1) == ["A one. B two.", "B two. C three.", "C three. D four."]
    assert cut(text, 2, 3) == ["A one.", "B two.", "C three.", "D four."]


def test_configuration_is_checked() -> None:
    for wrong in ({"max_words": -1}, {"overlap_sentences": 21}, {"words": 3}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, PassageConfig)


PIECES = st.sampled_from(
    [
        "word",
        "a",
        "x" * 70,
        "次",
        "ไท",
        "\u0301",
        ".",
        ". ",
        "。",
        " ",
        "\n\n",
        "Dr. ",
        "3.14",
        "😀",
    ]
)
TEXTS = st.one_of(st.text(max_size=100), st.lists(PIECES, max_size=60).map("".join))


@given(TEXTS, st.integers(1, 12), st.integers(0, 3))
def test_passages_cover_the_text_within_the_bound(
    text: str, max_words: int, overlap_sentences: int
) -> None:
    spans = passage_spans(text, PassageConfig(max_words, overlap_sentences))
    reached = last_start = 0
    for start, end in spans:
        assert start < end
        assert last_start <= start
        assert reached < end
        assert text[reached:start].strip() == ""
        assert overlap_sentences or reached <= start
        assert text[start:end] == text[start:end].strip()
        assert n_words_slowly(text[start:end]) <= max_words
        reached, last_start = end, start
    assert text[reached:].strip() == ""


@given(TEXTS, st.integers(1, 12))
def test_a_sentence_is_cut_only_when_it_is_too_long(text: str, max_words: int) -> None:
    ends = {end for _, end in passage_spans(text, PassageConfig(max_words))}
    for start, end in sentence_spans(text):
        if n_words(text[start:end]) <= max_words:
            assert not any(start < cut_at < end for cut_at in ends)


@given(TEXTS)
def test_words_are_counted_as_the_slow_twin_does(text: str) -> None:
    assert n_words(text) == n_words_slowly(text)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["x", "word ", "字", "ไ", "A b! ", "é\u0301"])
def test_time_grows_linearly_whatever_the_text(unit: str, grows_linearly: GrowsLinearly) -> None:
    config = PassageConfig(10, 2)
    grows_linearly(lambda n_units: passage_spans(unit * n_units, config), 10_000 // len(unit))


@pytest.mark.slow
def test_ten_megabytes_on_one_line() -> None:
    text = "lorem ipsum dolor " * 555_556
    spans = passage_spans(text, PassageConfig())
    assert len(spans) == 5556
    assert spans[-1][1] == len(text) - 1
