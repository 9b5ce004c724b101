"""Kept words → text, and the map from every stretch of it to its place in the source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import regex

from indexes.scripts import UNSPACED
from rag.compress.words import Span

_CLOSE = regex.compile(rf"[{UNSPACED}--\p{{Hangul}}]|[\u3000-\u303f\uff00-\uffef]", regex.VERSION1)


class Stretch(NamedTuple):
    """`text[start:end]` of the kept text is `source[source_start:source_end]`."""

    start: int
    end: int
    source_start: int
    source_end: int


class KeptText(NamedTuple):
    """A text with words left out; between two stretches stands what parts them now."""

    text: str
    stretches: list[Stretch]


def keep_words(
    source: str, words: Sequence[Span], kept: Iterable[int], *, line_breaks: bool = False
) -> KeptText:
    """The words numbered `kept`, ascending, as slices of the source.

    Neighbouring words keep what stands between them. Where words are gone a space parts what is
    left, nothing in scripts without spaces; with `line_breaks` a line break where one is gone. All
    words kept is the source itself, white space at its ends included.
    """
    numbers = list(kept)
    if numbers and len(numbers) == len(words):
        return whole(source)
    pieces: list[str] = []
    stretches: list[Stretch] = []
    length = 0
    for first, last in _runs(numbers):
        start, end = words[first].start, words[last].end
        if stretches:
            gap = _gap(source, stretches[-1].source_end, start, line_breaks=line_breaks)
            pieces.append(gap)
            length += len(gap)
        pieces.append(source[start:end])
        stretches.append(Stretch(length, length + end - start, start, end))
        length += end - start
    return KeptText("".join(pieces), stretches)


def whole(source: str) -> KeptText:
    """All of a source, as it is."""
    return KeptText(source, [Stretch(0, len(source), 0, len(source))] if source else [])


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers, ascending, as runs of consecutive ones: (first, last)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _gap(source: str, end: int, start: int, *, line_breaks: bool) -> str:
    """What stands where source[end:start] stood."""
    if line_breaks and "\n" in source[end:start]:
        return "\n"
    unspaced = _CLOSE.match(source, end - 1) and _CLOSE.match(source, start)
    return "" if unspaced else " "
