"""A text and a teacher's compression of it → which stretches of the text were kept.

The annotation of Pan et al. 2024 (section 3.2): words are compared by stem, each compressed word
marks the nearest unmarked source word that it can be, searched to both sides of the last one. What
is marked are places in the source as it is written, punctuation included: nothing is rebuilt from
lemmas, and no label stands beside its word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rag.compress.words import Span, plain_words
from rag.generate.alignment import split_words

WINDOW = 400
"""Words that are searched, half of them to either side of the last match."""


class Annotation(NamedTuple):
    """What was kept, and how far the compression can be trusted.

    `variation` is the share of compressed words that the source does not have (the teacher's own
    words). `gap` is the share of source words that the compression has somewhere, less the share
    that was marked: large where marks are missing.
    """

    preserve: list[Span]
    variation: float
    gap: float


def annotate(text: str, compressed: str, window: int = WINDOW) -> Annotation:
    """Mark the words of `text` that `compressed` kept; an empty compression keeps none."""
    words, source = _formed(text)
    _, wanted = _formed(compressed)
    marked = align(source, wanted, window)
    there, said = frozenset(source), frozenset(wanted)
    n_source = max(1, len(source))
    hits = sum(form in said for form in source) / n_source
    return Annotation(
        preserve=[word for word, kept in zip(words, marked, strict=True) if kept],
        variation=sum(form not in there for form in wanted) / max(1, len(wanted)),
        gap=hits - sum(marked) / n_source,
    )


def align(source: Sequence[str], wanted: Sequence[str], window: int) -> list[bool]:
    """For each word of `source` whether one of `wanted`, taken in order, marked it."""
    marked = [False] * len(source)
    last = -1
    for form in wanted:
        found = _nearest(source, marked, form, last, window // 2)
        if found is not None:
            marked[found] = True
            last = found
    return marked


def _nearest(
    source: Sequence[str], marked: Sequence[bool], form: str, last: int, reach: int
) -> int | None:
    """The unmarked `form` nearest to `last`; of two as near the one after it."""
    for distance in range(1, reach + 1):
        for at in (last + distance, last - distance):
            if 0 <= at < len(source) and not marked[at] and source[at] == form:
                return at
    return None


def _formed(text: str) -> tuple[list[Span], list[str]]:
    """Words and marks of punctuation with their normal forms: stems, or as they are written."""
    stems = {word.start: word.form for word in split_words(text)}
    words = plain_words(text)
    return words, [stems.get(a, text[a:b].casefold()) for a, b in words]
