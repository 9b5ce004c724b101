"""Mask and update of a monitor over text: the next word is one of its suggestions.

Within a suggestion a token is legal when what it says is the beginning of what is left of one, or
the whole rest of one, an end of the word, and anything after that.

One token may lead into the monitor's business and on: ".get". Whether it is legal only the
monitor can tell, and there are thousands of such tokens: they are the constraint's doubts, each
settled when the model would take it.

A monitor that has fired is asked in another thread, and the answer is waited for when logits are to
be masked; one that has fired at the end of what stands before is asked when this is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from rag.generate.monitors.automaton import DEAD, AutomatonBuilder, ByteAutomaton
from rag.generate.monitors.monitor import Foreseeing, Monitor
from rag.generate.monitors.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

_FREE = 1
"""The state of a suggestions' automaton once the word has ended."""


_ASKING = ThreadPoolExecutor(2, "monitors")


class _State(NamedTuple):
    """What was generated; where in which suggestions; sets of suggestions seen up to here.

    `asked` are suggestions that will hold from here on, if there are any.
    """

    text: bytes
    suggestions: frozenset[str]
    at: int
    n_sets: int
    asked: Future[frozenset[str]] | None = None


class SuggestingMonitor:
    """A `Monitor` as `rag.generate.constraint.DoubtingConstraint`; one request's.

    `before` is what stands before the generated text, for the monitor to read.
    """

    asks = True

    def __init__(self, monitor: Monitor, vocabulary: Vocabulary, before: str = "") -> None:
        self._monitor = monitor
        self._vocabulary = vocabulary
        self._before = before
        self._foreseeing = monitor if isinstance(monitor, Foreseeing) else None
        self._automata: dict[frozenset[str], ByteAutomaton] = {}
        self._masks: dict[tuple[frozenset[str], int], torch.Tensor | None] = {}
        self._fired: dict[bytes, Future[frozenset[str]] | None] = {}
        self._first = self._started()

    def start(self, _prompt_ids: Sequence[int]) -> _State:
        """What stands before may have fired already; it was asked about when this was made."""
        return self._first

    def _started(self) -> _State:
        state = _State(b"", frozenset(), _FREE, 0)
        last = self._before[-1:].encode()
        triggers = self._monitor.triggers(self._before[:-1])
        return self._fire(state) if last and last in triggers else state

    def advance(self, state: _State, token_id: int) -> _State:
        """The state after the token's bytes; free after one that was not legal."""
        data = self._vocabulary.spelling(token_id)
        reached = self._read(state, data)
        if reached is None:
            reached = _State(state.text + data, frozenset(), _FREE, state.n_sets)
        if self._foreseeing is not None:
            self._foreseeing.foresee(self._text(reached.text))
        return reached

    def keep(self, state: _State) -> torch.Tensor | None:
        """Tokens that go on with a suggestion, doubtful ones too; None outside of any.

        Raises what asking the monitor raised.
        """
        state = _answered(state)
        if not state.suggestions:
            return None
        key = state.suggestions, state.at
        if key not in self._masks:
            automaton = self._automaton(state.suggestions)
            legal = self._vocabulary.trie.legal(automaton, state.at)
            mask = self._vocabulary.mask(legal, may_end=automaton.accepts(state.at))
            self._masks[key] = mask if mask is not None and bool(mask.any()) else None
        return self._masks[key]

    def doubts(self, state: _State) -> torch.Tensor | None:
        """Tokens that may fire the monitor and then go on."""
        return self._vocabulary.containing(self._triggers(state.text), at_end=False)

    def confirms(self, state: _State, token_id: int) -> bool:
        """Whether the token, read byte by byte, breaks no suggestion."""
        return self._read(state, self._vocabulary.spelling(token_id)) is not None

    def n_suggested(self, state: _State) -> int:
        """Sets of suggestions that the text has been held to."""
        return _answered(state).n_sets

    def _read(self, state: _State, data: bytes) -> _State | None:
        for byte in data:
            state = _answered(state)
            triggers = self._triggers(state.text)
            text, at = state.text + bytes([byte]), state.at
            if state.suggestions:
                at = self._automaton(state.suggestions).read(at, bytes([byte]))
                if at == DEAD:
                    return None
            held = state.suggestions if at != _FREE else frozenset[str]()
            state = _State(text, held, at, state.n_sets)
            if at == _FREE and byte in triggers:
                state = self._fire(state)
        return state

    def _fire(self, state: _State) -> _State:
        """Held to suggestions where the monitor has some."""
        if state.text not in self._fired:
            text = self._text(state.text)
            fires = self._monitor.pre(text)
            asked = _ASKING.submit(self._monitor.suggest, text) if fires else None
            self._fired[state.text] = asked
        return state._replace(asked=self._fired[state.text])

    def _automaton(self, suggestions: frozenset[str]) -> ByteAutomaton:
        if suggestions not in self._automata:
            self._automata[suggestions] = suggestion_automaton(suggestions, self._monitor.word)
        return self._automata[suggestions]

    def _triggers(self, generated: bytes) -> bytes:
        return self._monitor.triggers(self._text(generated))

    def _text(self, generated: bytes) -> str:
        return self._before + generated.decode(errors="replace")


def _answered(state: _State) -> _State:
    """The state once the monitor has answered."""
    if state.asked is None:
        return state
    suggestions = state.asked.result()
    if not suggestions:
        return state._replace(asked=None)
    return _State(state.text, suggestions, 0, state.n_sets + 1)


@lru_cache(maxsize=512)
def suggestion_automaton(suggestions: frozenset[str], word: bytes) -> ByteAutomaton:
    """Reads one suggestion from state 0, then an end of the word into state 1, which is free.

    A suggestion that does not end in a character of words is its own end.
    """
    built = AutomatonBuilder()
    start = built.state(accepting=False)
    free = built.state(loops=True)
    ended = built.state()
    built.edge(ended, (byte for byte in range(0x80) if byte not in word), free)
    spelled = sorted(one.encode() for one in suggestions if one)
    for one in spelled:
        if one[-1] < 0x80 and one[-1] not in word:
            built.edge(built.word(start, one[:-1]), one[-1:], free)
    ends = [built.word(start, one) for one in spelled if one[-1] >= 0x80 or one[-1] in word]
    for end in ends:
        built.accept(end)
        built.like(end, ended)
    return built.build()
