"""Citations: a number in brackets is that of a piece of evidence that was shown."""

from __future__ import annotations

from collections.abc import Iterable

from rag.generate.monitors.automaton import DEAD, DIGITS, WHITE, AutomatonBuilder, ByteAutomaton

_BRACKETS = (("[", "]"), ("【", "】"), ("［", "］"))


def citation_automaton(numbers: Iterable[int]) -> ByteAutomaton:
    """`[1]`, `[1, 2]` and `[1][2]` of these numbers; brackets around anything else are free."""
    built = AutomatonBuilder()
    free = built.state(loops=True)
    opened = built.state()
    built.like(opened, free)
    built.edge(opened, WHITE, opened)
    built.edge(opened, DIGITS, DEAD)
    # After a comma a number must come, and after a number a comma or the end.
    again = built.state(accepting=False)
    built.edge(again, WHITE, again)
    done = built.state(accepting=False)
    for _, closing in _BRACKETS:
        built.utf8(done, closing, free)
    built.edge(done, WHITE, done)
    built.edge(done, b",;", again)
    for number in numbers:
        spelled = str(number).encode()
        built.merge(built.word(opened, spelled), done)
        # The same ways lead on after a comma.
        built.edge(again, spelled[:1], built.word(opened, spelled[:1]))
    for opening, _ in _BRACKETS:
        built.utf8(free, opening, opened)
    return built.build()
