"""The monitors that a request can ask for by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeAlias

from indexes.errors import InvalidInput
from rag.generate.constraint import Constraint
from rag.generate.monitors.byte_monitor import ByteMonitor
from rag.generate.monitors.citation import citation_automaton
from rag.generate.monitors.names import name_automaton, words_of
from rag.generate.monitors.numbers import number_automaton, numbers_of
from rag.generate.monitors.quote import quote_automaton
from rag.generate.monitors.vocabulary import Vocabulary
from rag.generate.shown import Shown

GROUP = "evident.monitors"
"""Entry points of this group are `Opener`s of monitors of one's own."""

Opener: TypeAlias = Callable[[Shown, Vocabulary], Constraint]
"""Makes one request's constraint: a `ByteMonitor`, a `SuggestingMonitor`, or one of one's own."""


def open_monitor(name: str, shown: Shown, vocabulary: Vocabulary) -> Constraint:
    """The monitor `name` over what the model was shown. Raises `InvalidInput`."""
    opener = _OPENERS.get(name) or _installed(name)
    if shown.is_empty:
        raise InvalidInput(f"{name} needs evidence, or a context, to look into", "/decode/monitors")
    return opener(shown, vocabulary)


def monitor_names() -> list[str]:
    """Every name that a request can ask for, those of one's own last."""
    own = (entry.name for entry in entry_points(group=GROUP))
    return [*_OPENERS, *sorted(name for name in own if name not in _OPENERS)]


def _installed(name: str) -> Opener:
    for entry in entry_points(group=GROUP, name=name):
        opener: Opener = entry.load()
        return opener
    known = ", ".join(_OPENERS)
    raise InvalidInput(f"there is no monitor {name!r}, but {known}", "/decode/monitors")


def _citation(shown: Shown, vocabulary: Vocabulary) -> Constraint:
    return ByteMonitor(citation_automaton(shown.numbers), vocabulary)


def _quote(shown: Shown, vocabulary: Vocabulary) -> Constraint:
    return ByteMonitor(quote_automaton(shown.texts), vocabulary)


def _numbers(shown: Shown, vocabulary: Vocabulary) -> Constraint:
    known = numbers_of([*shown.texts, shown.question])
    return ByteMonitor(number_automaton(known, shown.numbers), vocabulary)


def _names(shown: Shown, vocabulary: Vocabulary) -> Constraint:
    return ByteMonitor(name_automaton(words_of([*shown.texts, shown.question])), vocabulary)


_OPENERS: dict[str, Opener] = {
    "citation": _citation,
    "quote": _quote,
    "numbers": _numbers,
    "names": _names,
}
