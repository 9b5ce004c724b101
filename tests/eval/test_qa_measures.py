from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.answer_text import best, contains, exact_match, normalise, token_f1
from eval.qa_measures import Outcome, abstained, average, measure


@pytest.mark.parametrize(
    ("text", "normalised"),
    [("The  Cat!", "cat"), ("an U.S. ship", "us ship"), ("a-b", "ab"), ("theatre", "theatre")],
)
def test_normalise(text, normalised):
    assert normalise(text) == normalised


def test_f1_and_exact_match():
    assert token_f1("the cat sat", "a cat") == pytest.approx(2 / 3)
    assert token_f1("cat cat", "cat") == pytest.approx(2 / 3)
    assert token_f1("", "cat") == token_f1("dog", "cat") == 0
    assert token_f1("the", "a") == 1
    assert exact_match("The Cat.", "cat") == 1
    assert best(exact_match, "x", []) == 0


@given(st.text("ab the.", max_size=12), st.text("ab the.", max_size=12))
def test_f1_is_symmetric_and_bounds_exact_match(x, y):
    assert token_f1(x, y) == token_f1(y, x)
    assert exact_match(x, y) <= token_f1(x, y) <= 1


def test_contains_takes_whole_tokens():
    assert contains("It was the Normans.", "normans") == 1
    assert contains("It was 1999.", "99") == 0
    assert contains("anything", "the") == 0


def outcome(answer="Paris", golds=("Paris",), cited=None, **more):
    return Outcome(
        id="q",
        answer=answer,
        golds=golds,
        relevant=frozenset({"d1", "d2"}),
        cited={"d1": ["Paris is large"]} if cited is None else cited,
        evidence=["In France, Paris is large.", "Other."],
        **more,
    )


def test_a_right_and_cited_answer():
    assert measure(outcome("It is Paris.")) == pytest.approx(
        {
            "em": 0,
            "f1": 0.5,
            "subspan_em": 1,
            "answer_in_evidence": 1,
            "abstained_answerable": 0,
            "citation_recall": 0.5,
            "citation_precision": 1,
            "cited_answer": 1,
        }
    )


def test_citations_of_the_wrong_document():
    row = measure(outcome(cited={"d9": ["Lyon"], "d2": ["Nice"]}))
    assert (row["citation_precision"], row["citation_recall"], row["cited_answer"]) == (0.5, 0.5, 0)


def test_without_citations_precision_does_not_apply():
    row = measure(outcome(cited={}))
    assert "citation_precision" not in row
    assert row["citation_recall"] == 0


@pytest.mark.parametrize("answer", ["", "  ", "I don't know.", "Unknown", "The."])
def test_declining(answer):
    assert abstained(outcome(answer))
    assert measure(outcome(answer))["abstained_answerable"] == 1
    assert measure(outcome(answer))["f1"] == 0
    assert measure(outcome(answer, golds=())) == {"em": 1, "f1": 1, "abstained_unanswerable": 1}


def test_status_decides_over_words():
    assert abstained(outcome("Paris", no_evidence=True))
    assert not abstained(outcome("Unknown soldier"))
    assert measure(outcome(golds=()))["abstained_unanswerable"] == 0


def test_means_run_over_the_questions_a_measure_applies_to():
    means = average([{"em": 1.0, "f1": 1.0}, {"em": 0.0}])
    assert means.mean == {"em": 0.5, "f1": 1.0}
    assert means.n == {"em": 2, "f1": 1}
    assert average([]).mean == {}
