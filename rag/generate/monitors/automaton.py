"""Automata over bytes: small enough to be a table, so that a whole vocabulary can be read at once.

A monitor over bytes cannot be escaped: whatever way the tokenizer cuts the text, the same bytes are
read one by one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

DEAD = -1
"""No state: the text is not allowed."""

DIGITS = b"0123456789"
WHITE = b" \t\r\n"


class ByteAutomaton:
    """A table of states, `[n_states, n_classes]`: bytes that no state tells apart are one class."""

    def __init__(
        self,
        table: npt.NDArray[np.int32],
        classes: npt.NDArray[np.uint8],
        accepting: npt.NDArray[np.bool_],
    ) -> None:
        self._table = table
        self._classes = classes
        self._accepting = accepting
        self.free = (table == np.arange(len(table))[:, None]).all(axis=1)
        """Of each state, whether every byte leads back to it: whatever comes is allowed."""

    @property
    def n_states(self) -> int:
        """States, the dead one not counted."""
        return len(self._table)

    def step(
        self, states: npt.NDArray[np.int32], data: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.int32]:
        """The state after byte `data[i]` from `states[i]`, which is not dead."""
        return self._table[states, self._classes[data]]

    def read(self, state: int, data: bytes) -> int:
        """The state after all of `data`; DEAD once it is dead."""
        for byte in data:
            if state == DEAD:
                break
            state = int(self._table[state, self._classes[byte]])
        return state

    def accepts(self, state: int) -> bool:
        """Whether the text may end here."""
        return bool(self._accepting[state])


class AutomatonBuilder:
    """States and edges one by one. State 0 is the first made, and where a text begins."""

    def __init__(self) -> None:
        self._edges: list[dict[int, int]] = []
        self._others: list[int | None] = []
        self._accepting: list[bool] = []

    def state(self, *, accepting: bool = True, loops: bool = False) -> int:
        """A new state, dead for every byte without an edge; `loops`: they leave it where it is."""
        self._edges.append({})
        self._others.append(None)
        self._accepting.append(accepting)
        if loops:
            self._others[-1] = len(self._edges) - 1
        return len(self._edges) - 1

    def edge(self, state: int, data: Iterable[int], to: int) -> None:
        """Each byte of `data` leads from `state` to `to`, which may be DEAD."""
        for byte in data:
            self._edges[state][byte] = to

    def like(self, state: int, other: int) -> None:
        """A byte without an edge does what it does in `other`."""
        self._others[state] = other

    def following(self, state: int, byte: int) -> int | None:
        """Where the edge of `byte` leads; None without one, or to nowhere."""
        to = self._edges[state].get(byte, DEAD)
        return None if to == DEAD else to

    def accept(self, state: int) -> None:
        """The text may end in `state`."""
        self._accepting[state] = True

    def word(self, state: int, spelled: bytes) -> int:
        """Where `spelled` leads from `state`; what is missing of the way is made, not accepting."""
        for byte in spelled:
            to = self.following(state, byte)
            if to is None:
                to = self.state(accepting=False)
                self._edges[state][byte] = to
            state = to
        return state

    def utf8(self, state: int, text: str, to: int) -> None:
        """The character `text` leads from `state` to `to`.

        A part of it does as `state` does where that is like another, and is dead elsewhere.
        """
        *head, last = text.encode()
        at = state
        for byte in head:
            following = self.following(at, byte)
            if following is None:
                free = self._others[state] is not None
                following = self.state(accepting=free and self._accepting[state])
                if free:
                    self.like(following, state)
                self._edges[at][byte] = following
            at = following
        self._edges[at][last] = to

    def merge(self, state: int, other: int) -> None:
        """Every way that leads on from `other` leads on from `state` too."""
        for byte, to in self._edges[other].items():
            following = self.following(state, byte)
            if following is None:
                self._edges[state][byte] = to
            elif following != to:
                self.merge(following, to)

    def build(self) -> ByteAutomaton:
        """The table. Raises `ValueError` when states are like each other in a circle."""
        used = sorted({byte for edges in self._edges for byte in edges})
        classes = np.zeros(256, np.uint8)
        # Bytes that no edge names are one class, 0, unless every byte is named.
        shift = 1 if len(used) < 256 else 0
        classes[used] = np.arange(len(used)) + shift
        table = np.full((len(self._edges), len(used) + shift), DEAD, np.int32)
        for state in self._in_order():
            other = self._others[state]
            if other is not None:
                table[state] = state if other == state else table[other]
            for byte, to in self._edges[state].items():
                table[state, classes[byte]] = to
        return ByteAutomaton(table, classes, np.array(self._accepting, np.bool_))

    def _in_order(self) -> list[int]:
        """States, each after the one it is like."""
        order: list[int] = []
        done = [False] * len(self._edges)
        for state in range(len(self._edges)):
            chain = []
            at: int | None = state
            while at is not None and not done[at]:
                if at in chain:
                    raise ValueError("states are like each other in a circle")
                chain.append(at)
                other = self._others[at]
                at = None if other == at else other
            for one in reversed(chain):
                done[one] = True
                order.append(one)
        return order
