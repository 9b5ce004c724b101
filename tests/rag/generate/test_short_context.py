"""What RAPID's drafter reads of a long context."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rag.generate.short_context import MIN_CHARS, best_chunks, short_evidence, short_text
from rag.search import Hit

FILLER = "The committee met again and discussed several matters of little interest to anyone. "


def hit(id_: str, text: str) -> Hit:
    return Hit(id=id_, rank=1, score=1.0, scores={}, title="t", text=text, metadata={})


def test_rare_words_of_the_question_decide() -> None:
    chunks = ["a dodo ate", "the bird of Mauritius", "a bird", "a bird flew", "nothing"]
    assert best_chunks("Which bird lived on Mauritius?", chunks, 25) == [1]
    assert best_chunks("Which bird lived on Mauritius?", chunks, 30) == [1, 2]
    assert best_chunks("zebra", chunks, 100) == [0]


@given(st.lists(st.text("ab \n", min_size=1, max_size=9), min_size=1), st.integers(0, 60))
def test_chosen_chunks_fit_and_stand_in_order(chunks: list[str], max_chars: int) -> None:
    chosen = best_chunks("ab ba aa", chunks, max_chars)
    assert chosen == sorted(set(chosen))
    assert chosen
    assert len(chosen) == 1 or sum(len(chunks[n]) for n in chosen) <= max_chars


def test_the_best_sentences_of_the_evidence() -> None:
    evidence = [hit("a", FILLER * 20 + "The dodo lived on Mauritius. " + FILLER), hit("b", FILLER)]
    short = short_evidence("Where did the dodo live?", evidence)
    assert [one.id for one in short] == ["a"]
    assert short[0].text == "The dodo lived on Mauritius."
    assert short[0].title == "t"


def test_the_best_stretch_of_a_long_text() -> None:
    text = FILLER * 60 + "The dodo lived on Mauritius. " + FILLER * 60
    short = short_text("Where did the dodo live?", text)
    assert "The dodo lived on Mauritius." in short
    assert len(short) < max(MIN_CHARS, len(text) / 4) + 900
    assert short_text("x", "") == ""
