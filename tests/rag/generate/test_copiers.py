"""Prompt lookup, suffix automaton and Token Recycling against slow twins."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.generate import suffix
from rag.generate.drafter import NO_DRAFT, match_class
from rag.generate.lookup import MAX_MATCH, PromptLookup
from rag.generate.recycle import Successors, TokenRecycling
from rag.generate.suffix import AnswerMemory, SuffixLookup
from rag.generate.suffix_automaton import ROOT, SuffixAutomaton

TEXTS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def lookup_twin(text: Sequence[int]) -> tuple[int, list[int]]:
    """The latest of the longest matches of the end, and ten tokens after it, copied one by one."""
    for length in range(min(MAX_MATCH, len(text) - 1), 0, -1):
        for end in range(len(text) - 2, length - 2, -1):
            if text[end - length + 1 : end + 1] == text[len(text) - length :]:
                copied = list(text)
                for n in range(10):
                    copied.append(copied[end + 1 + n])
                return length, copied[len(text) :]
    return 0, []


@given(TEXTS)
def test_lookup(text: list[int]) -> None:
    lookup = PromptLookup()
    for end in range(1, len(text) + 1):
        length, found = lookup_twin(text[:end])
        draft = lookup.offer(text[:end])
        assert draft.token_ids == found
        assert draft == NO_DRAFT or draft.source == ("lookup", match_class(length))


def occurrences(text: Sequence[int], part: Sequence[int]) -> int:
    return sum(
        list(text[at : at + len(part)]) == list(part) for at in range(len(text) - len(part) + 1)
    )


def longest_repeat(text: list[int]) -> int:
    return next(
        n
        for n in range(len(text) - 1, -1, -1)
        if occurrences(text, text[len(text) - n :]) > 1 or n == 0
    )


@given(TEXTS)
def test_automaton_knows_the_longest_repeated_end(text: list[int]) -> None:
    automaton = SuffixAutomaton()
    for end in range(1, len(text) + 1):
        automaton.extend(text[end - 1 : end])
        assert len(automaton) == end
        assert automaton.repeated_suffix()[1] == longest_repeat(text[:end])


@given(TEXTS, TEXTS)
def test_automaton_follows_the_longest_match(text: list[int], query: list[int]) -> None:
    automaton = SuffixAutomaton()
    automaton.extend(text)
    match = (ROOT, 0)
    for end in range(1, len(query) + 1):
        match = automaton.advance(*match, query[end - 1])
        expected = next(
            n for n in range(end, -1, -1) if n == 0 or occurrences(text, query[end - n : end])
        )
        assert match[1] == expected


@given(TEXTS, TEXTS)
def test_automaton_continues_with_the_most_frequent(text: list[int], query: list[int]) -> None:
    automaton = SuffixAutomaton()
    automaton.extend(text)
    match = (ROOT, 0)
    for token in query:
        match = automaton.advance(*match, token)
    matched = query[len(query) - match[1] :]
    found = automaton.continuation(match[0], 1, 0.0)
    counts = {t: occurrences(text, [*matched, t]) for t in range(4)}
    if matched and max(counts.values()):
        assert counts[found[0]] == max(counts.values())
        share = counts[found[0]] / sum(counts.values())
        assert bool(automaton.continuation(match[0], 1, share - 1e-9))
        assert not automaton.continuation(match[0], 1, share + 1e-9)


def test_of_equally_frequent_ones_the_last() -> None:
    automaton = SuffixAutomaton()
    automaton.extend([1, 2, 9, 1, 3, 8, 1])
    state, length = automaton.repeated_suffix()
    assert length == 1
    assert automaton.continuation(state, 1, 0.0) == [3]


def test_a_text_of_one_token_takes_linear_time() -> None:
    automaton = SuffixAutomaton()
    automaton.extend([7] * 50_000)
    assert len(automaton) == 50_000
    assert automaton.continuation(automaton.repeated_suffix()[0], 10, 0.2) == [7] * 10


@given(TEXTS)
@settings(max_examples=50)
def test_drafts_grow_with_the_match(text: list[int]) -> None:
    draft = SuffixLookup(AnswerMemory()).offer(text)
    assert len(draft.token_ids) <= 2 * longest_repeat(text)


def test_old_answers_are_continued_and_one_text_never_runs_into_the_next() -> None:
    memory = AnswerMemory()
    memory.add([5, 6, 7, 8])
    memory.add([9, 9])
    lookup = SuffixLookup(memory)
    assert lookup.offer([1, 5, 6]).token_ids == [7, 8]
    assert lookup.offer([1, 5, 6, 7, 8]) == NO_DRAFT
    assert SuffixLookup(AnswerMemory()).offer([1, 5, 6]) == NO_DRAFT


def test_the_longer_match_wins_and_the_own_text_of_equal_ones() -> None:
    memory = AnswerMemory()
    memory.add([4, 5, 6, 7])
    assert SuffixLookup(memory).offer([5, 6, 9, 4, 5, 6]).token_ids[0] == 7
    assert SuffixLookup(memory).offer([4, 5, 6, 9, 4, 5, 6]).token_ids[0] == 9


def test_old_answers_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suffix, "GENERATION_TOKENS", 10)
    memory = AnswerMemory()
    memory.add([1, 2, 3])
    for filler in range(100, 106):
        memory.add([filler] * 5)
        if filler == 102:
            assert SuffixLookup(memory).offer([1, 2]).token_ids == [3]
    assert SuffixLookup(memory).offer([1, 2]) == NO_DRAFT
    assert sum(map(len, memory.automata())) < 40


def one_hot_rows(best: Sequence[int]) -> torch.Tensor:
    rows = torch.zeros(len(best), 10)
    rows[range(len(best)), list(best)] = 1
    return rows


def test_recycling_remembers_each_row_also_after_a_rejected_token() -> None:
    recycling = TokenRecycling(Successors())
    assert recycling.offer([1, 2]) == NO_DRAFT
    recycling.observe([1, 2], [3, 4], one_hot_rows([5, 6, 7]))
    assert recycling.offer([1, 2]).token_ids == [5]
    assert recycling.offer([9, 3]).token_ids == [6]
    assert recycling.offer([3, 4]).source == ("recycle", 2)
    assert recycling.offer([8, 4]).source == ("recycle", 1)
    recycling.observe([2, 5], [], one_hot_rows([3]))
    assert recycling.offer([1, 2]).token_ids == [5, 3, 6]


def test_recycling_goes_round_at_most_ten_tokens_and_starts_anywhere() -> None:
    recycling = TokenRecycling(Successors())
    recycling.observe([4], [4], one_hot_rows([4, 4]))
    assert recycling.offer([4]).token_ids == [4] * 10


def test_recycling_keeps_to_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from rag.generate import recycle

    monkeypatch.setattr(recycle, "MAX_PAIRS", 3)
    successors = Successors()
    for token in range(10):
        successors.learn(token, 0, token)
    assert len(successors._after_pair) <= 3
    assert successors.best(9, 0) == (9, 2)


def test_tenants_share_nothing() -> None:
    one, other = Successors(), Successors()
    TokenRecycling(one).observe([1, 2], [], one_hot_rows([3]))
    assert TokenRecycling(other).offer([1, 2]) == NO_DRAFT
