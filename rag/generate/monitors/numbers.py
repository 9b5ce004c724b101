"""Numbers: every number of the text is one of the evidence or of the question."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rag.generate.monitors.automaton import DEAD, DIGITS, AutomatonBuilder, ByteAutomaton

_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_POINTS = b".,"


def numbers_of(texts: Iterable[str]) -> set[str]:
    """Every run of digits, with points and commas between digits; also without the commas."""
    found = {number for text in texts for number in _NUMBER.findall(text)}
    return found | {number.replace(",", "") for number in found}


def number_automaton(numbers: Iterable[str], citable: Iterable[int]) -> ByteAutomaton:
    """Runs of digits are `numbers`, written out in full; all else is free.

    `citable` numbers may stand in brackets too: `[1]`, `[1, 2]`.
    """
    known, cited = set(numbers), {str(number) for number in citable}
    built = AutomatonBuilder()
    free = built.state(loops=True)
    bracket = built.state()
    built.like(bracket, free)
    # Behind a number that may stand in brackets only: they are closed, or another one comes.
    closing, again = built.state(accepting=False), built.state(accepting=False)
    built.edge(closing, b"]", free)
    built.edge(closing, b" ,;", again)
    built.edge(again, b" ", again)
    for state in (free, bracket):
        built.edge(state, DIGITS, DEAD)
    built.edge(bracket, b" ,;", bracket)
    built.edge(free, b"[", bracket)
    for number in sorted(cited | known):
        built.merge(built.word(again, number.encode()), closing)
    for number in sorted(cited - known):
        built.merge(built.word(bracket, number.encode()), closing)
    _add(built, free, known)
    _add(built, bracket, known)
    return built.build()


def _add(built: AutomatonBuilder, outside: int, numbers: set[str]) -> None:
    """Lead from `outside` through each number and back."""
    for number in sorted(numbers):
        end = built.word(outside, number.encode())
        built.accept(end)
        built.like(end, outside)
    for number in sorted(numbers):
        end = built.word(outside, number.encode())
        _forbid_others(built, end, DIGITS)
        for point in _POINTS:
            # "3." may end a sentence or go on to 3.5, if that is known; 3.7 is another number.
            after = built.word(end, bytes([point]))
            built.accept(after)
            built.like(after, outside)
            _forbid_others(built, after, DIGITS)


def _forbid_others(built: AutomatonBuilder, state: int, data: bytes) -> None:
    """No byte of `data` but those that lead on in the trie."""
    built.edge(state, [byte for byte in data if built.following(state, byte) is None], DEAD)
