"""Citation, quote, numbers and names: what they let through against plain regular expressions."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag.generate.monitors.automaton import DEAD, ByteAutomaton
from rag.generate.monitors.citation import citation_automaton
from rag.generate.monitors.names import ALWAYS, name_automaton, words_of
from rag.generate.monitors.numbers import number_automaton, numbers_of
from rag.generate.monitors.quote import quote_automaton

SHOWN = [1, 2, 12]
MARKER = re.compile(r"[\[【［]\s*(\d+(?:\s*[,;]\s*\d+)*)\s*[\]】］]")
LIVE = 0


def alive(automaton: ByteAutomaton, text: str) -> bool:
    return automaton.read(LIVE, text.encode()) != DEAD


def whole(automaton: ByteAutomaton, text: str) -> bool:
    state = automaton.read(LIVE, text.encode())
    return state != DEAD and automaton.accepts(state)


def cited(text: str) -> set[int]:
    return {int(n) for found in MARKER.findall(text) for n in re.split(r"\s*[,;]\s*", found)}


@given(st.text("[]【】［］123, ;a", max_size=14))
@example("[1][2] and [12, 1]")
@example("【1】［2］")
def test_a_text_that_passes_cites_what_was_shown(text: str) -> None:
    if whole(citation_automaton(SHOWN), text):
        assert cited(text) <= set(SHOWN)


PROSE = st.text("ab .,13)(]", max_size=6)
MARKERS = st.sampled_from(["[1]", "[2]", "[12]", "[ 1 ]", "[1, 2]", "[1;12]", "【2】", "［1］",
                           "[sic]", "[]", "[a 7]"])  # fmt: skip


@given(st.lists(st.one_of(PROSE, MARKERS), max_size=8))
def test_prose_and_shown_citations_pass(pieces: list[str]) -> None:
    assert whole(citation_automaton(SHOWN), "".join(pieces))


@pytest.mark.parametrize("text", ["[3]", "[ 3", "[121", "[1, 3]", "[01]", "【7】", "［9］", "[1-",
                                  "[1a", "x [1] [22", "[[5]"])  # fmt: skip
def test_other_citations_do_not(text: str) -> None:
    assert not alive(citation_automaton(SHOWN), text)


def test_a_text_does_not_end_inside_a_citation() -> None:
    automaton = citation_automaton(SHOWN)
    assert [whole(automaton, text) for text in ("[1", "[1,", "[1]", "[", "a")] == [
        False,
        False,
        True,
        True,
        True,
    ]


EVIDENCE = ['He said "no" to all.', "Ünder the cité, 3.5 km", "aaab"]


def quotations(text: str) -> list[str] | None:
    """The stretches between quotes; None when the last one is not closed."""
    found, begun = [], None
    for at, ch in enumerate(text):
        if begun is None and ch in '"“„«':
            begun = at + 1
        elif begun is not None and ch in '"”“»':
            found.append(text[begun:at])
            begun = None
    return found if begun is None else None


def is_evidence(stretch: str) -> bool:
    return bool(stretch) and '"' not in stretch and any(stretch in text for text in EVIDENCE)


@given(st.text('"“”aébHe sté«', max_size=10))
@example('"He said " and “cité”')
@example('"aa" "aaa" "aaab"')
@example('"é"')
def test_quotations_pass_exactly_when_they_stand_in_the_evidence(text: str) -> None:
    found = quotations(text)
    passes = whole(quote_automaton(EVIDENCE), text)
    assert passes == (found is not None and all(map(is_evidence, found)))


@given(st.data())
@settings(max_examples=60)
def test_every_stretch_can_be_quoted(data) -> None:
    text = data.draw(st.sampled_from(["Ünder the cité, 3.5 km", "aaab", " to all."]))
    start = data.draw(st.integers(0, len(text) - 1))
    stretch = text[start : data.draw(st.integers(start + 1, len(text)))]
    for opening, closing in ['""', "“”", "„“", "«»"]:
        assert whole(quote_automaton(EVIDENCE), f"so: {opening}{stretch}{closing} it is")


@given(st.binary(max_size=8))
@example("aé".encode()[:-1] + b'"')
def test_a_quotation_never_cuts_a_character(data: bytes) -> None:
    automaton = quote_automaton(EVIDENCE)
    state = automaton.read(LIVE, b'"' + data)
    if state != DEAD and automaton.accepts(state):
        data.decode()


KNOWN = ["1,234.5", "7", "2021", "3.5"]


@given(st.text("1234570,. ax", max_size=12))
@example("1,234.5, 7. 3.5")
@example("1234.5")
@example("3.57")
def test_numbers_pass_exactly_when_they_are_known(text: str) -> None:
    known = numbers_of([" and ".join(KNOWN)])
    found = re.findall(r"[0-9]+(?:[.,][0-9]+)*", text)
    assert whole(number_automaton(known, []), text) == (set(found) <= known)


def test_numbers_in_citations_are_free_where_shown() -> None:
    automaton = number_automaton(["7"], [1, 2])
    assert all(alive(automaton, text) for text in ("[1]", "[1, 2] 7", "[7]", "7 [2]."))
    assert not any(alive(automaton, text) for text in ("1", "[3]", "[1] 2", "12", "[2 km", "[2a"))


NAMED = words_of(["The Seine flows through Paris.", "élan of Émile McCoy, G20"])


@pytest.mark.slow
@given(st.lists(st.sampled_from(["Paris", "paris", "Rome", "Emile", "Émile", "Élan", "élan", "The",
                                 "SEINE", "Through", "Parisian", "McCoy", "Mc", "G20", "G2", "3D",
                                 "Éa", "I", "Ωmega", "日本", "flows"]), max_size=6),
       st.sampled_from([" ", ", ", "-", "’", ".\n", "“"]))  # fmt: skip
def test_names_pass_exactly_when_they_are_known(words: list[str], between: str) -> None:
    text = between.join(words)
    allowed = NAMED | {"The", *ALWAYS}
    unknown = {
        word
        for word in re.findall(r"[A-Za-z0-9\u00c0-\u07ff]+", text)
        if re.match(r"[A-Z\u00c0-\u00d6\u00d8-\u00de]", word) and word not in allowed
    }
    assert whole(name_automaton(NAMED), text) == (not unknown)


def test_common_words_begin_sentences() -> None:
    automaton = name_automaton(NAMED)
    assert alive(automaton, "It was. However, Through which river? The Seine; I know.")
    assert not alive(automaton, "It was Napoleon")


def test_monitors_of_nothing_known() -> None:
    assert not alive(quote_automaton([]), '"a')
    assert not alive(number_automaton([], []), "1")
    assert not alive(citation_automaton([]), "[1")
    assert alive(name_automaton([]), "The end")
