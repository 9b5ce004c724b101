"""Suffix decoding: the most frequent continuation of the longest match, here or in old answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rag.answer import MAX_DRAFT_TOKENS
from rag.generate.drafter import NO_DRAFT, Draft, match_class
from rag.generate.suffix_automaton import ROOT, SuffixAutomaton

if TYPE_CHECKING:
    import torch

TOKENS_PER_MATCH = 2.0
"""alpha: a match of n tokens is trusted for alpha * n more."""

MIN_SHARE = 0.2
"""A draft ends where it is less probable than this, by the counts."""

GENERATION_TOKENS = 32_768
"""Old answers are kept in two automata; when the young one has this many tokens it becomes the
old one, and what was the old one is forgotten."""

SEPARATOR = -1


class AnswerMemory:
    """Answers given before, for one index and tenant; shared between the requests' threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._automata = [SuffixAutomaton(), SuffixAutomaton()]

    def add(self, token_ids: Sequence[int]) -> None:
        """Remember one answer."""
        with self.lock:
            if len(self._automata[0]) >= GENERATION_TOKENS:
                self._automata = [SuffixAutomaton(), self._automata[0]]
            self._automata[0].extend([*token_ids, SEPARATOR])

    def automata(self) -> list[SuffixAutomaton]:
        """The young and the old one; to be read under the lock."""
        with self.lock:
            return list(self._automata)


class SuffixLookup:
    """SuffixDecoding (2411.04975) over the prompt with the text so far, and over old answers."""

    def __init__(self, memory: AnswerMemory) -> None:
        self._lock = memory.lock
        self._own = SuffixAutomaton()
        self._shared = memory.automata()
        self._matches = [(ROOT, 0) for _ in self._shared]

    def offer(self, prefix: Sequence[int]) -> Draft:
        """The continuation of the longest match; of equally long ones the request's own."""
        new = prefix[len(self._own) :]
        self._own.extend(new)
        state, length = self._own.repeated_suffix()
        automaton = self._own
        with self._lock:
            self._follow(new)
            for shared, match in zip(self._shared, self._matches, strict=True):
                if match[1] > length:
                    (state, length), automaton = match, shared
            n_tokens = min(MAX_DRAFT_TOKENS, int(TOKENS_PER_MATCH * length))
            found = automaton.continuation(state, n_tokens, MIN_SHARE) if n_tokens else []
        if not found:
            return NO_DRAFT
        return Draft(("suffix", match_class(length)), found)

    def observe(self, prefix: Sequence[int], draft: Sequence[int], logits: torch.Tensor) -> None:
        """Nothing to learn from logits."""

    def _follow(self, new: Sequence[int]) -> None:
        """Advance the matches in old answers; only the last tokens of a long prompt matter."""
        for token_id in new[-MAX_DRAFT_TOKENS * 4 :]:
            self._matches = [
                shared.advance(*match, token_id)
                for shared, match in zip(self._shared, self._matches, strict=True)
            ]
