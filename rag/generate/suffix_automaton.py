"""A suffix automaton over tokens: every substring of a growing text, with how often it occurs."""

from __future__ import annotations

from collections.abc import Iterable

MAX_DEPTH = 64
"""Counts go to this many suffixes of a new token: more exist only in text that repeats itself."""

ROOT = 0


class SuffixAutomaton:
    """The smallest automaton of all substrings (Blumer et al. 1985), built token by token.

    A state is a set of substrings that end at the same places; the longest of them has
    `_length[state]` tokens. Amortised O(1) a token.
    """

    def __init__(self) -> None:
        self._next: list[dict[int, int]] = [{}]
        self._link = [-1]
        self._length = [0]
        self._count = [0]
        self._end = [-1]
        self._last = ROOT

    def __len__(self) -> int:
        return self._length[self._last]

    def extend(self, token_ids: Iterable[int]) -> None:
        """Append tokens; a negative one separates texts and is never a continuation."""
        for token_id in token_ids:
            self._append(token_id)

    def repeated_suffix(self) -> tuple[int, int]:
        """(state, length) of the longest end of the text that also stands earlier in it."""
        state = max(self._link[self._last], ROOT)
        return state, self._length[state]

    def advance(self, state: int, length: int, token_id: int) -> tuple[int, int]:
        """The longest match after one more token, from a match of `length` tokens in `state`."""
        while state != ROOT and token_id not in self._next[state]:
            state = self._link[state]
            length = min(length, self._length[state])
        if token_id not in self._next[state]:
            return ROOT, 0
        return self._next[state][token_id], length + 1

    def transitions(self) -> list[dict[int, int]]:
        """For every state the state after each token; a path from the root is a substring."""
        return self._next

    def continuation(self, state: int, n_tokens: int, min_share: float) -> list[int]:
        """The most frequent next token, again and again; of equals the one seen last.

        Where nothing follows, the longest shorter match goes on. Ends when the tokens together
        are less than `min_share` of what followed `state`.
        """
        found: list[int] = []
        share = 1.0
        while len(found) < n_tokens:
            following = [(self._count[s], self._end[s], t) for t, s in self._next[state].items()]
            best = max((entry for entry in following if entry[2] >= 0), default=None)
            if best is None:
                # The text ends here: a shorter match may go on.
                state = self._link[state]
                if state <= ROOT:
                    break
                continue
            share *= best[0] / sum(entry[0] for entry in following)
            if share < min_share:
                break
            found.append(best[2])
            state = self._next[state][best[2]]
        return found

    def _append(self, token_id: int) -> None:
        new = self._add(self._length[self._last] + 1, {}, ROOT, 0)
        state = self._last
        while state >= 0 and token_id not in self._next[state]:
            self._next[state][token_id] = new
            state = self._link[state]
        if state >= 0:
            self._link[new] = self._suffix_of(state, token_id)
        self._last = new
        self._count_suffixes(new)

    def _suffix_of(self, state: int, token_id: int) -> int:
        """The state of `state`'s longest substring and `token_id`, split off where needed."""
        target = self._next[state][token_id]
        if self._length[target] == self._length[state] + 1:
            return target
        clone = self._add(
            self._length[state] + 1,
            dict(self._next[target]),
            self._link[target],
            self._count[target],
        )
        self._end[clone] = self._end[target]
        self._link[target] = clone
        while state >= 0 and self._next[state].get(token_id) == target:
            self._next[state][token_id] = clone
            state = self._link[state]
        return clone

    def _add(self, length: int, following: dict[int, int], link: int, count: int) -> int:
        self._next.append(following)
        self._link.append(link)
        self._length.append(length)
        self._count.append(count)
        self._end.append(-1)
        return len(self._next) - 1

    def _count_suffixes(self, state: int) -> None:
        end = self._length[state]
        for _ in range(MAX_DEPTH):
            if state <= ROOT:
                break
            self._count[state] += 1
            self._end[state] = end
            state = self._link[state]
