from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.faithfulness import faithfulness
from eval.rouge import lcs_length, rouge, rouge_l, rouge_n, rouge_tokens

TOKENS = st.lists(st.sampled_from("abcd"), max_size=80)


def by_table(x, y):
    """The twin: the textbook table of the longest common subsequence."""
    above = [0] * (len(y) + 1)
    for token in x:
        row = [0]
        for j, other in enumerate(y):
            row.append(above[j] + 1 if token == other else max(row[-1], above[j + 1]))
        above = row
    return above[-1]


@given(TOKENS, TOKENS)
def test_bit_parallel_lcs_equals_its_twin(x, y):
    assert lcs_length(x, y) == by_table(x, y)


def test_tokens():
    assert rouge_tokens("Running, U.S. 3.5 naïve", stem=False) == [
        "running",
        "u",
        "s",
        "3",
        "5",
        "na",
        "ve",
    ]
    assert rouge_tokens("running runs ran") == ["run", "run", "ran"]
    assert rouge_tokens("") == []


def test_values_of_the_rouge_score_package():
    """Computed once with rouge-score 0.1.2, stemmer off."""
    guess = "The quick brown fox jumps over the lazy dog; the dog sleeps."
    reference = "A quick brown dog jumps over a lazy fox. The fox sleeps, the dog barks."
    golden = {
        "rouge1": 0.8148148148148148,
        "rouge2": 0.23999999999999996,
        "rougeL": 0.5185185185185186,
    }
    assert rouge(guess, [reference], stem=False) == pytest.approx(golden, abs=1e-12)


def test_overlap_is_counted_with_multiplicity():
    overlap = rouge_n(["a", "a", "b"], ["a", "c"], 1)
    assert (overlap.precision, overlap.recall) == pytest.approx((1 / 3, 1 / 2))
    assert rouge_n(["a"], ["a"], 2).f == 0
    assert rouge_l([], ["a"]).f == 0


def test_the_best_reference_counts():
    assert rouge("cats sleep", ["dogs bark", "the cat sleeps"])["rouge1"] == pytest.approx(0.8)


SOURCE = (
    "The meeting began at nine. Anna presented the budget of 1,200 euros. Bert objected to it. "
    "Much later they discussed the remote control. Its case will be made of rubber."
)


def test_copied_sentences_are_faithful():
    row = faithfulness("Anna presented the budget of 1,200 euros.", SOURCE)
    assert row["faithfulness"] == row["numbers_supported"] == row["coverage"] == 1
    # Tokens 1 and 200 make the one copied fragment eight tokens long.
    assert row["density"] == 8


def test_invented_words_and_numbers_are_not():
    row = faithfulness("Anna presented the budget of 9,900 dollars.", SOURCE)
    assert row["faithfulness"] == pytest.approx(3 / 6)
    assert row["numbers_supported"] == 0


def test_support_must_stand_close_together():
    together = faithfulness("Anna discussed budget.", SOURCE)["faithfulness"]
    apart = faithfulness("Anna meeting rubber.", SOURCE)["faithfulness"]
    assert together == 1
    assert apart == pytest.approx(2 / 3)


def test_nothing_to_count():
    assert faithfulness("", SOURCE) == {}
    assert faithfulness("Rubber.", "")["faithfulness"] == 0
    assert "faithfulness" not in faithfulness("It is.", SOURCE)


def test_a_real_reference_summary_is_more_faithful_to_its_own_story(shared):
    with gzip.open(shared("qfs", "squality", "dev.jsonl.gz"), "rt", encoding="utf-8") as stream:
        first, second = (json.loads(next(stream)) for _ in range(2))
    summary = first["questions"][0]["responses"][0]["response_text"]
    own = faithfulness(summary, first["document"])["faithfulness"]
    assert own > faithfulness(summary, second["document"])["faithfulness"] + 0.1
