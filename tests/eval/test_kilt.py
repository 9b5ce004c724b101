from __future__ import annotations

import json

import pytest

from eval.kilt import score_kilt
from eval.kilt_record import KiltRecord, Output
from eval.kilt_retrieval import at_cutoffs, r_precision, rank_sets
from eval.kilt_rouge import kilt_rouge_l
from indexes.errors import InvalidInput, MalformedInput, NotFound


def test_fixture_1(shared):
    folder = shared("kilt", "eval_fixtures")
    scores = score_kilt(folder / "guess1_1.jsonl", folder / "gold1.jsonl")
    assert scores.kilt["KILT-em"] == pytest.approx(1 / 3, abs=1e-15)
    assert scores.kilt["KILT-f1"] == pytest.approx(1 / 3, abs=1e-15)
    assert scores.kilt["KILT-rougel"] == pytest.approx(0.3333333316666667, abs=1e-15)
    assert scores.downstream["em"] == pytest.approx(2 / 3, abs=1e-15)
    assert scores.downstream["f1"] == pytest.approx(0.8333333333333334, abs=1e-15)
    assert scores.downstream["rougel"] == pytest.approx(0.7222222178240741, abs=1e-15)
    assert scores.retrieval["Rprec"] == pytest.approx(1 / 3, abs=1e-15)
    assert scores.retrieval["recall@5"] == pytest.approx(1 / 3, abs=1e-15)
    assert (scores.n_queries, scores.n_empty) == (3, 0)


def test_fixture_1_against_itself(shared):
    gold = shared("kilt", "eval_fixtures") / "gold1.jsonl"
    scores = score_kilt(gold, gold)
    assert scores.kilt == pytest.approx(
        {"KILT-accuracy": 1, "KILT-em": 1, "KILT-f1": 1, "KILT-rougel": 0.999999995}, abs=1e-15
    )
    assert scores.downstream == pytest.approx(
        {"accuracy": 1, "em": 1, "f1": 1, "rougel": 0.999999995}, abs=1e-15
    )
    assert scores.retrieval["Rprec"] == scores.retrieval["recall@5"] == 1


def test_fixture_3(shared):
    folder = shared("kilt", "eval_fixtures")
    scores = score_kilt(folder / "guess3_1.jsonl", folder / "gold3.jsonl")
    assert scores.kilt["KILT-em"] == scores.downstream["em"] == 0
    assert scores.kilt["KILT-f1"] == pytest.approx(0.25510204081632654, abs=1e-15)
    assert scores.kilt["KILT-rougel"] == pytest.approx(0.22352940932318338, abs=1e-15)
    assert scores.downstream["f1"] == pytest.approx(0.5102040816326531, abs=1e-15)
    assert scores.downstream["rougel"] == pytest.approx(0.44705881864636676, abs=1e-15)


@pytest.mark.parametrize(
    ("guess", "expected"),
    [
        ("guess2_1", [1 / 2, 1, 2 / 5, 2 / 3, 1]),
        ("guess2_2", [1, 1, 1 / 5, 1 / 3, 1]),
    ],
)
def test_fixture_2(shared, guess, expected):
    folder = shared("kilt", "eval_fixtures")
    scores = score_kilt(folder / f"{guess}.jsonl", folder / "gold2.jsonl", [1, 5])
    names = ["Rprec", "precision@1", "precision@5", "recall@5", "success_rate@5"]
    assert [scores.retrieval[name] for name in names] == pytest.approx(expected, abs=1e-15)
    assert scores.n_empty == 1


def record(*page_sets):
    provenance = ([{"wikipedia_id": page} for page in pages] for pages in page_sets)
    return KiltRecord("1", output=[Output("x", entries) for entries in provenance])


def test_an_evidence_set_counts_once_where_its_last_page_is():
    gold = record([1, 2], ["2", 1], [3])
    assert rank_sets(gold, record([1, 9, "2 ", 3])).complete == [False, True, True]
    assert rank_sets(gold, record([1, 9])).complete == [False, False]
    assert rank_sets(gold, record([1, 9])).n_sets == 2
    assert at_cutoffs(rank_sets(gold, record([])), [1, 5]) == {
        "precision@1": 0,
        "precision@5": 0,
        "recall@5": 0,
        "success_rate@5": 0,
    }


def test_repeated_pages_take_no_place():
    assert r_precision(record([1, 2]), record([1, "1", 2])) == 1
    assert r_precision(record([1, 2], []), record([7, 1, 2])) == 0.5


@pytest.mark.parametrize(
    ("guess", "reference", "expected"),
    [
        ("", "a", 0),
        ("..", "a", 0),
        ("a", "", 0),
        ("a a a", "a", 1),
        ("a b. c d", "c d. a b", 1),
        ("a b", "b a", 0.5),
    ],
)
def test_kilt_rouge_l(guess, reference, expected):
    assert kilt_rouge_l(guess, reference) == pytest.approx(expected, abs=1e-7)


def line(key, answer, *pages):
    provenance = [{"wikipedia_id": page} for page in pages]
    return json.dumps({"id": key, "output": [{"answer": answer, "provenance": provenance}]})


def test_empty_answers_stay_in_the_denominator(tmp_path):
    (tmp_path / "gold").write_text(f"{line(1, 'x', 5)}\n{line(2, 'y', 5)}\n")
    (tmp_path / "guess").write_text(f"{line('2', ' ', 5)}\n{line('1', 'x', 5)}\n")
    scores = score_kilt(tmp_path / "guess", tmp_path / "gold")
    assert scores.downstream["accuracy"] == scores.kilt["KILT-em"] == 0.5
    assert scores.retrieval["Rprec"] == 1
    assert scores.n_empty == 1


@pytest.mark.parametrize(
    ("guess", "error", "reason"),
    [
        (line(1, "x"), InvalidInput, "no guess for '2'"),
        ("\n".join(line(i, "x") for i in (1, 2, 3)), InvalidInput, "unknown questions: '3'"),
        ("\n".join(line(i, "x") for i in (1, 2, "1")), InvalidInput, "line 3.*there twice"),
        ('{"id": 1, "output": []}\n{"id": 2, "output": []}', InvalidInput, "exactly one output"),
        ('{"id": 1, "output": {}}', InvalidInput, "line 1"),
        ("{", MalformedInput, "line 1 is not JSON"),
        ("", InvalidInput, "holds no record"),
    ],
)
def test_broken_guesses(tmp_path, guess, error, reason):
    (tmp_path / "gold").write_text(f"{line(1, 'x', 5)}\n{line(2, 'y', 5)}\n")
    (tmp_path / "guess").write_text(guess)
    with pytest.raises(error, match=reason):
        score_kilt(tmp_path / "guess", tmp_path / "gold")
    with pytest.raises(NotFound):
        score_kilt(tmp_path / "nothing", tmp_path / "gold")
