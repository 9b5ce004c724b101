"""Which words are kept whatever they score, and which force tokens say the same again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import regex

from rag.compress.compression import Compression
from rag.compress.words import Span

NORMAL, QUOTA, FORCED, PROTECTED = range(4)
"""Tiers: all words of a higher one come before any of a lower one."""

NO_TOKEN = -1

_CITATION = regex.compile(r"\[\s*+\d{1,3}(?:\s*+[,;–-]\s*+\d{1,3})*+\s*+\]")
_CODE = regex.compile(r"(`{3,}+)(?:.|\n)*?\1|(?<!`)`(?!`)[^`\n]++`(?!`)")


class ForceTokens:
    """The force tokens of a request. Letters and digits match whole words only."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._patterns = [_pattern(token) for token in tokens if not token.isspace()]

    def places(self, text: str) -> Iterable[tuple[int, Span]]:
        """(number of the token, where it stands) for every occurrence."""
        for number, pattern in enumerate(self._patterns):
            for match in pattern.finditer(text):
                yield number, Span(*match.span())


def tiers(
    text: str, words: Sequence[Span], options: Compression, protected: Iterable[Span]
) -> tuple[list[int], list[int]]:
    """Each word's tier; and the number of the force token it is all of, else `NO_TOKEN`."""
    found = [NORMAL] * len(words)
    tokens = [NO_TOKEN] * len(words)
    if options.keep_digits:
        for number, word in enumerate(words):
            if any(ch.isdecimal() for ch in text[word.start : word.end]):
                found[number] = FORCED
    for token, place in ForceTokens(options.force_tokens).places(text):
        for number in touched(words, place):
            found[number] = FORCED
            if words[number] == place:
                tokens[number] = token
    kinds = (_CITATION,) * options.keep_citations + (_CODE,) * options.keep_code
    spans = [Span(*match.span()) for kind in kinds for match in kind.finditer(text)]
    for span in (*spans, *protected):
        for number in touched(words, span):
            found[number] = PROTECTED
    return found, tokens


def touched(words: Sequence[Span], span: Span) -> range:
    """Numbers of the words that share a character with the span."""
    if span.start >= span.end:
        return range(0)
    first = bisect_right(words, span.start, key=lambda word: word.end)
    last = bisect_left(words, span.end, key=lambda word: word.start)
    return range(first, last)


def without_repeats(kept: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """The words numbered `kept`, less every force token that follows the same one directly."""
    found: list[int] = []
    for number in kept:
        same = found and tokens[number] != NO_TOKEN and tokens[found[-1]] == tokens[number]
        if not same:
            found.append(number)
    return found


def _pattern(token: str) -> regex.Pattern[str]:
    before = r"(?<!\w)" if token[0].isalnum() else ""
    after = r"(?!\w)" if token[-1].isalnum() else ""
    return regex.compile(before + regex.escape(token) + after)
