"""Sentences by what they share with the question, with their title and with each other."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from test_words import HOSTILE

from indexes.sentences import sentence_spans
from rag.compress.compression import Passage
from rag.compress.relevance import sentences_of


def ranked(passages, question, **switches):
    flags = {"by_question": True, "by_passage": True} | switches
    found = sorted(sentences_of(passages, question, **flags), key=lambda one: -one.relevance)
    return [passages[one.hit].text[one.start : one.end] for one in found]


def test_rare_words_of_the_question_count_most():
    passage = Passage("The town is old. The town has a mayor. The town has a brewery of note.")
    assert ranked([passage], "Which brewery does the town have?")[0].endswith("brewery of note.")


def test_the_title_and_the_sentences_beside_count_in_part():
    first = Passage("It rose in 1887. Tickets are sold. Cats sleep.", title="Eiffel Tower")
    second = Passage("It fell in 1887. Tickets are sold. Cats sleep.", title="Berlin Wall")
    assert ranked([second, first], "When did the Eiffel Tower rise?")[0] == "It rose in 1887."
    passage = Passage("Dogs bark. Radium glows. It was found early. Then came noon. Birds sing.")
    found = ranked([passage], "When was radium discovered?")
    assert found.index("It was found early.") < found.index("Then came noon.")


def test_the_passages_score():
    passages = [Passage("Dogs bark.", score=0.2), Passage("Dogs bark.", score=0.8)]
    found = sentences_of(passages, "dogs", by_question=True, by_passage=True)
    assert found[1].relevance > found[0].relevance
    unranked = sentences_of(passages, "dogs", by_question=True, by_passage=False)
    assert unranked[0].relevance == unranked[1].relevance


def test_without_a_question_the_central_sentence():
    text = "The river rose. The river fell, and the river rose again. Someone sang."
    assert ranked([Passage(text)], "")[-1] == "Someone sang."


@given(st.lists(HOSTILE, max_size=3), HOSTILE, st.floats(), st.booleans(), st.booleans())
def test_any_text_and_score(texts, question, score, by_question, by_passage):
    passages = [Passage(text, score=score) for text in texts]
    found = sentences_of(passages, question, by_question=by_question, by_passage=by_passage)
    places = [(n, *span) for n, text in enumerate(texts) for span in sentence_spans(text)]
    assert [(one.hit, one.start, one.end) for one in found] == places
    assert all(math.isfinite(one.relevance) and 0 <= one.relevance <= 1 for one in found)
