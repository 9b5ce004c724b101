"""The vocabulary as a trie over bytes, walked level by level with an automaton."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rag.generate.monitors.automaton import ByteAutomaton

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int32]


class _Level(NamedTuple):
    """All nodes of one depth, in the order of their parents.

    Node n has `byte[n]`; the children of node m of the level above are
    `first_child[m]:first_child[m + 1]`. `tokens[i]` ends in node `token_node[i]`. Of all tokens in
    the order of their bytes, `first_below[n]:end_below[n]` end in node n or below it.
    """

    byte: npt.NDArray[np.uint8]
    first_child: Ints
    tokens: Ints
    token_node: Ints
    first_below: Ints
    end_below: Ints


class TokenTrie:
    """Every token that stands for text, by its bytes; several may end in one node."""

    def __init__(self, spelled: Sequence[bytes | None]) -> None:
        self.spelled = tuple(spelled)
        self.n_tokens = len(self.spelled)
        self.control = np.array([i for i, text in enumerate(self.spelled) if not text], np.int64)
        in_order = [(text, i) for i, text in enumerate(self.spelled) if text]
        self._in_order = np.array([i for _, i in sorted(in_order)], np.int32)
        self._levels = _levels(self.spelled, self._in_order)
        self._containing: dict[tuple[bytes, bool], Bools] = {}
        self.masks: dict[tuple[bytes, bool, int], Any] = {}
        """What vocabularies of these tokens have made of `containing`."""

    def legal(self, automaton: ByteAutomaton, state: int) -> Bools:
        """Which tokens the automaton can read whole from `state`: `[n_tokens]`.

        A dead branch is not walked, and neither is one below a state from which all is allowed.
        """
        legal = np.zeros(self.n_tokens, np.bool_)
        # Where the free branches begin and end, as steps up and down.
        steps = np.zeros(len(self._in_order) + 1, np.int32)
        alive = np.zeros(1, np.int64)
        states = np.full(1, state, np.int32)
        for level in self._levels:
            starts = level.first_child[alive].astype(np.int64)
            n_children = level.first_child[alive + 1] - starts
            # The ranges starts[i]:starts[i] + n_children[i], one after the other.
            before = np.cumsum(n_children) - n_children
            children = np.repeat(starts - before, n_children) + np.arange(n_children.sum())
            reached = automaton.step(np.repeat(states, n_children), level.byte[children])
            lives = reached >= 0
            is_free = lives & automaton.free[reached]
            if is_free.any():
                steps[level.first_below[children[is_free]]] += 1
                steps[level.end_below[children[is_free]]] -= 1
                lives &= ~is_free
            alive, states = children[lives], reached[lives]
            if not len(alive):
                break
            is_alive = np.zeros(len(level.byte), np.bool_)
            is_alive[alive] = True
            legal[level.tokens] = is_alive[level.token_node]
        legal[self._in_order[steps[:-1].cumsum() > 0]] = True
        return legal

    def containing(self, stops: bytes, *, at_end: bool = False) -> Bools:
        """Tokens with one of these bytes, with more after it unless `at_end`: `[n_tokens]`."""
        key = stops, at_end
        if key not in self._containing:
            found = np.zeros(self.n_tokens, np.bool_)
            tokens, starts = self._by_byte[at_end]
            for byte in stops:
                found[tokens[starts[byte] : starts[byte + 1]]] = True
            self._containing[key] = found
        return self._containing[key]

    @cached_property
    def _by_byte(self) -> tuple[tuple[Ints, npt.NDArray[np.int64]], ...]:
        """Tokens in the order of the bytes that they have, and where each byte's begin.

        Without the last byte of every token, and with it.
        """
        texts = [text or b"" for text in self.spelled]
        return _tokens_by_byte([text[:-1] for text in texts]), _tokens_by_byte(texts)


def _tokens_by_byte(texts: Sequence[bytes]) -> tuple[Ints, npt.NDArray[np.int64]]:
    data = np.frombuffer(b"".join(texts), np.uint8)
    tokens = np.repeat(np.arange(len(texts), dtype=np.int32), [len(text) for text in texts])
    order = np.argsort(data, kind="stable")
    return tokens[order], np.searchsorted(data[order], np.arange(257))


def _levels(spelled: Sequence[bytes | None], ids: Ints) -> list[_Level]:
    """Group the tokens by their first byte, each group by its second, and so on.

    `ids` are in the order of their bytes.
    """
    ranks = np.arange(len(ids))
    lengths = np.array([len(spelled[id_] or b"") for id_ in ids], np.int64)
    text = np.frombuffer(b"".join(spelled[id_] or b"" for id_ in ids), np.uint8)
    offsets = np.cumsum(lengths) - lengths
    nodes = np.zeros(len(ids), np.int64)
    n_above, depth = 1, 0
    levels: list[_Level] = []
    while len(ids):
        # Tokens of this depth or more, keyed by parent and byte: a sorted key is a node.
        keys = nodes * 256 + text[offsets + depth]
        found, firsts, nodes, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        first_below = ranks[firsts]
        first_child = np.searchsorted(found, np.arange(n_above + 1) * 256)
        ends = lengths == depth + 1
        levels.append(
            _Level(
                (found % 256).astype(np.uint8),
                first_child.astype(np.int32),
                ids[ends],
                nodes[ends].astype(np.int32),
                first_below.astype(np.int32),
                (first_below + counts).astype(np.int32),
            )
        )
        n_above, depth = len(found), depth + 1
        ids, ranks, lengths, offsets, nodes = (
            a[~ends] for a in (ids, ranks, lengths, offsets, nodes)
        )
    return levels
