"""Cutting a document into passages: the stretches that are searched and shown as evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Annotated, Final, NamedTuple

import msgspec
import regex

from indexes.scripts import MAYBE_UNSPACED, UNSPACED
from indexes.sentences import sentence_spans

_WORD: Final = regex.compile(
    rf"(?:{UNSPACED}\p{{M}}*+){{1,2}}+|(?:(?!{UNSPACED})[^\s\x1c-\x1f]){{1,32}}+", regex.VERSION1
)
"""One word for the purpose of length: up to 32 characters between spaces, or two characters (with
their marks) of a script that puts no spaces between words."""

_SPACED_WORD: Final = re.compile(r"\S{1,32}")
"""What `_WORD` does to text without such scripts, many times faster."""


class PassageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How documents are cut.

    `max_words` bounds a passage (0: a document is never cut); `overlap_sentences` says how many
    sentences a passage repeats from the end of the one before, as far as the bound allows.
    """

    max_words: Annotated[int, msgspec.Meta(ge=0)] = 300
    overlap_sentences: Annotated[int, msgspec.Meta(ge=0, le=20)] = 0


class _Piece(NamedTuple):
    """A sentence, or a part of one that is too long."""

    start: int
    end: int
    n_words: int


def passage_spans(text: str, config: PassageConfig) -> list[tuple[int, int]]:
    """Cut `text` into passages, as (start, end) offsets in code points.

    Cuts fall between sentences; only a sentence longer than `max_words` is cut inside. Passages of
    one document come out about equally long, so none is a stub. Without overlap they are disjoint;
    they always cover every character that is not white space. Blank text has no passage. Time is
    linear in `len(text)`.
    """
    stripped = text.strip()
    if not stripped:
        return []
    start = len(text) - len(text.lstrip())
    whole = [(start, start + len(stripped))]
    # A word has a character at least, so most short texts need no counting.
    if config.max_words == 0 or len(stripped) <= config.max_words:
        return whole
    pieces = list(_pieces(text, config.max_words))
    if sum(piece.n_words for piece in pieces) <= config.max_words:
        return whole
    return [(pieces[i].start, pieces[j - 1].end) for i, j in _pack(pieces, config)]


def n_words(text: str) -> int:
    """Length of `text` in words as passages count it."""
    return len(_word_pattern(text).findall(text))


def _word_pattern(text: str) -> re.Pattern[str] | regex.Pattern[str]:
    return _WORD if MAYBE_UNSPACED.search(text) else _SPACED_WORD


def _pieces(text: str, max_words: int) -> Iterator[_Piece]:
    """Sentences of `text`; one longer than `max_words` comes in parts."""
    word = _word_pattern(text)
    for start, end in sentence_spans(text):
        size = len(word.findall(text, start, end))
        if size <= max_words:
            yield _Piece(start, end, size)
            continue
        starts = (match.start() for match in word.finditer(text, start, end))
        edges = [*islice(starts, 0, None, max_words), end]
        for number, (left, right) in enumerate(pairwise(edges)):
            part = text[left:right].rstrip()
            yield _Piece(left, left + len(part), min(max_words, size - number * max_words))


def _pack(pieces: list[_Piece], config: PassageConfig) -> Iterator[tuple[int, int]]:
    """Ranges [i, j) of pieces that make a passage each.

    A passage closes when it is full, or has its even share of what was left when it began.
    """
    left = sum(piece.n_words for piece in pieces)
    start = after = 0
    while after < len(pieces):
        share = -(-left // -(-left // config.max_words))
        size = sum(piece.n_words for piece in pieces[start:after])
        while start < after and size + pieces[after].n_words > config.max_words:
            size -= pieces[start].n_words
            start += 1
        fresh = 0
        while after < len(pieces) and size + pieces[after].n_words <= config.max_words:
            if fresh >= share:
                break
            size += pieces[after].n_words
            fresh += pieces[after].n_words
            after += 1
        yield start, after
        left -= fresh
        start = max(start + 1, after - config.overlap_sentences)
