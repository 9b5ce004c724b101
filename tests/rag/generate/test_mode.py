"""Which mode `auto` takes."""

from __future__ import annotations

import pytest

from rag.answer import Decode, Grammar
from rag.generate.mode import asks_one_fact, choose_mode
from rag.generate.shown import Shown


def shown(question: str, *texts: str) -> Shown:
    return Shown(texts or ("The war ended in 1945.",), question, list)


@pytest.mark.parametrize(
    "question",
    [
        "When did the war end?",
        "in which year did it end",
        "Who wrote it?",
        "How many people live there?",
        "What year was it scrapped?",
        "What country left in 1948?",
        "What class is it in?",
        " Where is it?",
    ],
)
def test_one_fact(question: str) -> None:
    assert asks_one_fact(question)
    assert choose_mode(Decode(mode="auto"), shown(question)) == "extract"


@pytest.mark.parametrize(
    "question",
    [
        "Why did the war end?",
        "Summarize the meeting",
        "What did they decide?",
        "What is the plot of the story?",
        "What problems were reported?",
        "When discussing the design, what was said?",
        "Who is Thig and what happens to him?",
        "How does it work?",
        "Explain when it ended",
        "whatever",
        "",
    ],
)
def test_more_than_a_fact(question: str) -> None:
    assert not asks_one_fact(question)
    assert choose_mode(Decode(mode="auto"), shown(question)) == "free"


@pytest.mark.parametrize(
    "decode",
    [
        Decode(mode="auto", temperature=0.7),
        Decode(mode="auto", faithful="cad:0.5"),
        Decode(mode="auto", monitors=["citation"]),
        Decode(mode="auto", grammar=Grammar(regex="a")),
    ],
)
def test_what_cannot_be_extracted_is_free(decode: Decode) -> None:
    assert choose_mode(decode, shown("Who wrote it?")) == "free"


def test_without_evidence_it_is_free() -> None:
    assert choose_mode(Decode(mode="auto"), shown("Who wrote it?", " ")) == "free"


@pytest.mark.parametrize("mode", ["free", "momentum", "extract"])
def test_a_mode_that_is_asked_for_is_taken(mode) -> None:  # type: ignore[no-untyped-def]
    assert choose_mode(Decode(mode=mode), shown("Why?")) == mode
