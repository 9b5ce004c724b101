"""Strings, comments and brackets against the interpreter's own tokenizer."""

from __future__ import annotations

import io
import random
import tokenize
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag.generate.monitors.python.place import Place, Reader, split_arguments

SOURCES = sorted(
    path
    for path in (Path(__file__).parents[5] / "rag").rglob("*.py")
    if path.stat().st_size > 1_000
)


def kinds_of(source: str) -> list[str]:
    """For every offset what kind of place the text up to it ends in, by `tokenize`."""
    kinds = ["code"] * (len(source) + 1)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            start = starts[token.start[0] - 1] + token.start[1]
            end = starts[token.end[0] - 1] + token.end[1]
            is_string = token.type == tokenize.STRING
            # A prefix such as f"" is code until the quote; a comment goes on at its end.
            opened = start + (len(token.string) - len(token.string.lstrip("rRbBfFuU")))
            for at in range(opened + 1, end + (not is_string)):
                kinds[at] = "string" if is_string else "comment"
    return kinds


def openings(source: str, end: int) -> bool:
    """Whether the text up to `end` ends within an opening of three quotes, which may be two."""
    return source[max(0, end - 2) : end + 2].count('"') > 2


@pytest.mark.parametrize("number", range(6))
def test_real_programs(number: int) -> None:
    rng = random.Random(number)
    source = rng.choice(SOURCES).read_text()
    kinds = kinds_of(source)
    reader = Reader(source[: len(source) // 3])
    for end in rng.sample(range(len(source) // 3, len(source)), 60):
        if not openings(source, end):
            assert reader.place(source[:end]).kind == kinds[end], source[end - 20 : end]


@given(st.text("a\"'#\\\n([{)]}.,", max_size=25), st.integers(0, 25))
@example("'''a\nb", 5)
@example('"\\"(', 2)
def test_what_was_read_before_changes_nothing(text: str, cut: int) -> None:
    assert Reader(text[:cut]).place(text) == Reader().place(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x = f(a, [b", Place("code", (5, 9))),
        ("x = 'a(", Place("string", ())),
        ("x = 'a'", Place("code", ())),
        ("x = 'a\ny", Place("code", ())),
        ("'''a\ny", Place("string", ())),
        ("x  # it's (", Place("comment", ())),
        ("x  # it's (\n", Place("code", ())),
        ('f"{a}" + (', Place("code", (9,))),
        ("'\\'", Place("string", ())),
        (")", Place("code", ())),
        ("", Place("code", ())),
    ],
)
def test_places(text: str, place: Place) -> None:
    assert Reader().place(text) == place


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", [""]),
        ("a, b", ["a", " b"]),
        ("f(a, b), 'c, d', [1, 2", ["f(a, b)", " 'c, d'", " [1, 2"]),
        ("a,", ["a", ""]),
    ],
)
def test_arguments(text: str, arguments: list[str]) -> None:
    assert split_arguments(text) == arguments
