"""Names: every word with a capital is a word of the evidence, of the question, or a common one.

Words in Latin script; others have no capitals, or are free. Also the first word of a sentence
counts: it is most often the subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rag.generate.alignment import COMMON_WORDS
from rag.generate.monitors.automaton import DEAD, DIGITS, AutomatonBuilder, ByteAutomaton

_WORD = re.compile(r"[A-Za-z0-9\u00c0-\u07ff]+")
_SMALL = b"abcdefghijklmnopqrstuvwxyz"
_CAPITALS = _SMALL.upper()
_LEADS = bytes(range(0xC3, 0xE0))
"""First bytes of two-byte letters, U+00C0 to U+07FF; 0xC2 begins punctuation."""

_LATIN_LEAD = 0xC3
_LATIN_CAPITALS = bytes(byte for byte in range(0x80, 0x9F) if byte != 0x97)
_CONTINUATION = bytes(range(0x80, 0xC0))
ALWAYS = ("I", "A", "Yes", "No", "Not", "None", "Unknown", "However", "Therefore", "Question")


def words_of(texts: Iterable[str]) -> set[str]:
    """The words of `texts` as they stand, and each with a capital."""
    found = {word for text in texts for word in _WORD.findall(text)}
    return found | {word[0].upper() + word[1:] for word in found}


def name_automaton(words: Iterable[str]) -> ByteAutomaton:
    """Words with a capital are `words`, written out in full; small ones are free."""
    known = {*words, *ALWAYS, *(word.capitalize() for word in COMMON_WORDS)}
    built = AutomatonBuilder()
    outside = built.state(loops=True)
    inside = built.state()
    built.like(inside, outside)
    letter = _continued(built, inside)
    built.edge(inside, _SMALL + _CAPITALS + DIGITS, inside)
    built.edge(inside, _LEADS, letter)
    first = _continued(built, inside)
    built.edge(first, _LATIN_CAPITALS, DEAD)
    built.edge(outside, _SMALL + DIGITS, inside)
    built.edge(outside, _LEADS, letter)
    built.edge(outside, [_LATIN_LEAD], first)
    built.edge(outside, _CAPITALS, DEAD)
    ends = [built.word(outside, w.encode()) for w in sorted(known) if w and _has_capital(w)]
    for end in ends:
        built.accept(end)
        built.like(end, outside)
        others = _SMALL + _CAPITALS + DIGITS + _LEADS
        built.edge(end, [byte for byte in others if built.following(end, byte) is None], DEAD)
    return built.build()


def _continued(built: AutomatonBuilder, to: int) -> int:
    """A state that reads the second byte of a letter."""
    state = built.state(accepting=False)
    built.edge(state, _CONTINUATION, to)
    return state


def _has_capital(word: str) -> bool:
    first = word[0]
    return first in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" or (
        "\u00c0" <= first <= "\u00de" and first != "\u00d7"
    )
