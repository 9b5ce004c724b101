"""What is worth preserving, on texts where a reader knows."""

from __future__ import annotations

from rag.compress.words import Span
from rag.train.llmlingua2.labels import (
    answer_places,
    answering_sentences,
    supporting_turns,
    telling_words,
)

TEXT = (
    "Radium was found in 1898. In 1898 Marie Curie and her husband found radium, a metal. "
    "She was born in Warsaw. Curie's daughter was Irène."
)


def said(text, spans):
    return [text[start:end] for start, end in spans]


def test_answers_are_whole_words_whatever_their_spelling():
    assert said(TEXT, answer_places(TEXT, ["marie  CURIE", "met", ""])) == ["Marie Curie"]
    assert said("2017 -- 18 and 2017–18", answer_places("2017 -- 18 and 2017–18", ["2017-18"])) == [
        "2017 -- 18",
        "2017–18",
    ]
    assert answer_places("", ["a"]) == []


def test_of_sentences_with_the_answer_the_one_that_is_asked_for():
    found = answering_sentences(TEXT, "When did Curie find radium?", ["1898"])
    assert said(TEXT, found) == ["In 1898 Marie Curie and her husband found radium, a metal."]
    assert answering_sentences(TEXT, "When?", ["1911"]) == []


def test_without_a_question_the_words_of_any():
    found = telling_words(TEXT, ["Where was Marie Curie born?", "Who found it?"], ["Warsaw"])
    words = ["found", "Marie", "Curie", "found", "born", "Warsaw", "Curie's"]
    assert said(TEXT, found) == words


def test_turns_that_share_words_with_the_summary():
    text = "A: the price is high\nB: yes\nC: a high price"
    turns = [Span(0, 20), Span(21, 27), Span(28, 43)]
    assert supporting_turns(text, turns, "They found the price high.") == [turns[0], turns[2]]
