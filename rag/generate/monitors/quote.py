"""Quotations: what stands between double quotes stands so in the evidence, word for word."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rag.generate.monitors.automaton import AutomatonBuilder, ByteAutomaton
from rag.generate.suffix_automaton import ROOT, SuffixAutomaton

OPENING = '"“„«'
CLOSING = '"”“»'

_QUOTES = re.compile('["“”„«»]')
_SEPARATOR = -1
_CONTINUATION = range(0x80, 0xC0)
"""Bytes inside a UTF-8 character."""


def quote_automaton(texts: Iterable[str]) -> ByteAutomaton:
    """Quotes open a stretch of one of `texts`, of at least one character, and it alone closes them.

    A stretch has no quotes inside. Text outside quotes is free.
    """
    suffixes = SuffixAutomaton()
    for text in texts:
        for part in _QUOTES.split(text):
            suffixes.extend([*part.encode(), _SEPARATOR])
    built = AutomatonBuilder()
    free = built.state(loops=True)
    ways = suffixes.transitions()
    states = [built.state(accepting=False) for _ in ways]
    for state, way in zip(states, ways, strict=True):
        for byte, to in way.items():
            if byte != _SEPARATOR:
                built.edge(state, [byte], states[to])
    # A stretch begins with a character, so not with the middle of one.
    built.edge(states[ROOT], _CONTINUATION, -1)
    closing = built.state(accepting=False)
    for mark in CLOSING:
        built.utf8(closing, mark, free)
    for state, way in list(zip(states, ways, strict=True))[1:]:
        # All strings of a state end alike: in a character that is whole, or all in one that is not.
        if not any(byte in _CONTINUATION for byte in way):
            built.merge(state, closing)
    for mark in OPENING:
        built.utf8(free, mark, states[ROOT])
    return built.build()
