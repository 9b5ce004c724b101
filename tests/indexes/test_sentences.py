"""Sentence boundaries: known cases, invariants, linear time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexes.sentences import sentence_spans

GrowsLinearly = Callable[[Callable[[int], object], int], None]


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


CASES = [
    ("abbreviations", ["Dr. Smith met Mrs. Jones, e.g. here.", "He left."]),
    ("acronyms", ["The U.S. Army paid.", "She lives in the U.S.", "The end."]),
    ("initials", ["J. K. Rowling wrote.", "J.R.R. Tolkien wrote too."]),
    ("letter", ["Oranges have vitamin C.", "The peel has more."]),
    ("decimals", ["It cost $3.14 or .5 units.", "Version 2.0.1 is out."]),
    ("quotes", ['"Go!" she said.', "He answered (softly.)", "“Never.”", "Then he left."]),
    ("citations", ["This is known.[1,2]", "So is that.[3]", "See Fig. 2.", "Done."]),
    ("ellipsis", ["He did... then what?", "Nothing…", "Silence."]),
    ("numbers", ["He said no.", "Then No. 5 came on p. 7 of vol. 3.", "In 1999.", "Then more."]),
    ("names", ["Smith et al. (2010) saw.", "Acme Inc. shares fell.", "So did A Co.", "It grew."]),
    ("lower case", ["some text here.", "another sentence follows.", "about 5 ft. more."]),
    ("chinese", ["这是第一句。", "这是“第二句！”", "真的吗？", "是。"]),
    ("japanese", ["これは文です。", "「次の文！」", "と言った。", "What?", "次"]),
    ("hindi", ["यह एक वाक्य है।", "दूसरा वाक्य॥", "तीसरा"]),
    ("arabic", ["هل هذا صحيح؟", "نعم."]),
    ("armenian and amharic", ["Բարեւ։", "ሰላም።", "ok"]),
    ("full-width decimals", ["値は３．１４です。", "次"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sentences"), CASES, ids=[name for name, _ in CASES])
def test_known_cases(name: str, sentences: list[str]) -> None:
    unspaced = name in {"chinese", "japanese"}
    assert split(("" if unspaced else " ").join(sentences)) == sentences


def test_lines_that_end_a_sentence() -> None:
    text = (
        "A heading\n\nwraps over\ntwo lines\r\n\r\nIntro:\n1. First item\n2. Second item\n- third"
    )
    text += "\n# Next\f end"
    assert split(text) == [
        "A heading",
        "wraps over\ntwo lines",
        "Intro:",
        "1. First item",
        "2. Second item",
        "- third",
        "# Next",
        "end",
    ]


@pytest.mark.parametrize("text", ["", " \n\t ", "\u3000\u2003", "\x1c\x85"])
def test_blank_text_has_no_sentence(text: str) -> None:
    assert sentence_spans(text) == []


WORDS = """
Dr U.S no approx word several A 3 . ! ? … 。 ！ । ؟ ． " ” ) ( [1] - 次 é \u0301 😀 1. ,
"""
PIECES = st.sampled_from([*WORDS.split(), " ", " ", "\n", "\n\n", "\u3000", "\x1c"])


@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=40).map("".join)))
def test_spans_are_ordered_stripped_and_cover_everything(text: str) -> None:
    spans = sentence_spans(text)
    last = 0
    for start, end in spans:
        assert last <= start < end <= len(text)
        assert text[last:start].strip() == ""
        assert text[start:end] == text[start:end].strip()
        last = end
    assert text[last:].strip() == ""


UNITS = ["word ", ".", '."', ".[", ".[1,", "A. ", "\n ", "\n  1. ", " ", "(", "!? ", "。", "x"]


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_linearly_whatever_the_text(unit: str, grows_linearly: GrowsLinearly) -> None:
    grows_linearly(lambda n_units: sentence_spans(unit * n_units), 10_000 // len(unit))


@pytest.mark.slow
def test_ten_megabytes_on_one_line() -> None:
    text = "Here is one more sentence of it, with e.g. an abbreviation. " * 170_000
    assert len(sentence_spans(text)) == 170_000
