"""Words as places in a text: what is kept or dropped as a whole.

Words are ordered, disjoint, neither begin nor end with white space, and together hold every other
character. A word never begins inside a character that people see as one: combining marks, joiners
and emoji modifiers stay with what they belong to.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final, NamedTuple

import regex

from indexes.scripts import UNSPACED

JOINER: Final = "\u200d"
_MODIFIERS: Final = range(0x1F3FB, 0x1F400)

_WORD: Final = regex.compile(
    rf"[{UNSPACED}--\p{{Hangul}}]\p{{M}}*+ | [\p{{L}}\p{{N}}\p{{M}}'’]++ | \p{{RI}}\p{{RI}} | \S",
    regex.VERSION1 | regex.VERBOSE,
)
"""What a text is cut into where there is no token classifier with words of its own."""


class Span(NamedTuple):
    """[start, end) in code points."""

    start: int
    end: int


def plain_words(text: str) -> list[Span]:
    """Runs of letters and digits; single other characters; scripts without spaces by letter."""
    return tidy(text, (match.start() for match in _WORD.finditer(text)))


def tidy(text: str, starts: Iterable[int]) -> list[Span]:
    """The words that begin about at `starts`, ascending, made to hold all that is no white space.

    A word reaches to the next one, white space taken off either side. A start is passed over where
    nothing but white space would follow, or where it would break a visible character in two.
    """
    kept = [0]
    kept += [at for at in starts if at > kept[-1] and not _is_inside(text, at)]
    words = []
    for start, end in zip(kept, [*kept[1:], len(text)], strict=True):
        piece = text[start:end]
        bare = piece.strip()
        if bare:
            begin = start + len(piece) - len(piece.lstrip())
            words.append(Span(begin, begin + len(bare)))
    return words


def _is_inside(text: str, at: int) -> bool:
    """Whether a cut before text[at] would fall inside what is seen as one character."""
    ch = text[at]
    if ch.isascii():
        return False
    if text[at - 1].isspace():
        return False
    if text[at - 1] == JOINER or ord(ch) in _MODIFIERS:
        return True
    return unicodedata.category(ch) in {"Mn", "Mc", "Me", "Cf"}
