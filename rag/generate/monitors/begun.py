"""A text that has begun already: it is written again, in whatever tokens, and then it is free.

A prompt that ends inside a word ends in tokens that the model has hardly ever seen go on. So the
prompt ends before the word, and the word is demanded.
"""

from __future__ import annotations

from rag.generate.monitors.automaton import AutomatonBuilder, ByteAutomaton


def begun_automaton(text: str) -> ByteAutomaton:
    """Reads `text`, which is not empty, and then anything. Raises `ValueError` for an empty one."""
    spelled = text.encode()
    if not spelled:
        raise ValueError("nothing has begun")
    built = AutomatonBuilder()
    start = built.state(accepting=False)
    free = built.state(loops=True)
    built.edge(built.word(start, spelled[:-1]), spelled[-1:], free)
    return built.build()
