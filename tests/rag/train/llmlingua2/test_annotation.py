"""What a teacher kept, marked in the source."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.train.llmlingua2.annotation import Annotation, align, annotate
from rag.train.llmlingua2.distilled import trusted

TEXT = "John Smith, the chairman, said that the budget of 3,000 pounds was not approved."


def said(text, found):
    return [text[start:end] for start, end in found.preserve]


def test_kept_words_and_commas_are_marked_where_they_stand():
    found = annotate(TEXT, "John Smith, chairman: budget 3,000 pounds not approved.")
    kept = [
        "John",
        "Smith",
        ",",
        "chairman",
        "budget",
        "3",
        ",",
        "000",
        "pounds",
        "not",
        "approved",
        ".",
    ]
    assert said(TEXT, found) == kept
    assert found.preserve[2].start == TEXT.index(",")
    assert found.variation == 1 / 13
    assert annotate(TEXT, TEXT) == Annotation(found.preserve[:0] + _all(TEXT), 0.0, 0.0)


def _all(text):
    return annotate(text, text).preserve


def test_other_forms_of_a_word_are_the_word_and_foreign_words_are_counted():
    found = annotate("The dogs were barking loudly.", "dog barks aloud")
    assert said("The dogs were barking loudly.", found) == ["dogs", "barking"]
    assert found.variation == 1 / 3


def test_a_word_said_twice_marks_the_nearer_one():
    text = "the plan a b c d the vote e f g h the end"
    found = annotate(text, "vote a the end")
    assert [span.start for span in found.preserve] == [0, 9, 21, 38]
    back = annotate("alpha beta gamma delta", "gamma alpha")
    assert said("alpha beta gamma delta", back) == ["alpha", "gamma"]


def test_marks_that_are_missing_open_a_gap():
    far = " ".join(["cat", *(f"w{n}" for n in range(20)), "dog"])
    near, wide = annotate(far, "cat dog", window=8), annotate(far, "cat dog")
    assert said(far, near) == ["cat"]
    assert (near.gap, wide.gap) == (1 / 22, 0.0)
    assert annotate("a a a", "a").gap == pytest.approx(2 / 3)
    assert annotate("", "") == annotate("", "") == Annotation([], 0.0, 0.0)


@given(st.lists(st.sampled_from("abcdef"), max_size=30), st.data())
def test_what_only_deletes_is_marked_word_for_word(source, data):
    kept = [data.draw(st.booleans()) for _ in source]
    wanted = [form for form, keep in zip(source, kept, strict=True) if keep]
    marked = align(source, wanted, 200)
    assert sum(marked) == len(wanted)
    assert sorted(f for f, m in zip(source, marked, strict=True) if m) == sorted(wanted)
    distinct = [f"{form}{number}" for number, form in enumerate(source)]
    chosen = [form for form, keep in zip(distinct, kept, strict=True) if keep]
    assert align(distinct, chosen, 200) == kept


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_two_texts(text, compressed):
    found = annotate(text, compressed)
    assert found.preserve == sorted(set(found.preserve))
    assert all(text[start:end].strip() for start, end in found.preserve)
    assert 0 <= found.variation <= 1
    assert 0 <= found.gap <= 1


def test_the_worst_shares_are_left_out_one_measure_after_the_other():
    chosen = random.Random(5)
    found = [Annotation([], chosen.random(), chosen.random()) for _ in range(100)]
    kept = trusted(found, 0.05, 0.1)
    assert kept == sorted(kept)
    assert len(kept) == 86
    worst = sorted(found, key=lambda one: one.variation)[95:]
    left = [one for one in found if one not in worst]
    bound = sorted(one.gap for one in left)[85]
    assert [found[number] for number in kept] == [one for one in left if one.gap <= bound]
    assert trusted([], 0.05, 0.1) == []
