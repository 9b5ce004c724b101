"""`rag eval locate`: who points at the right sentence, on files small enough to count by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from eval.corpus_index import IndexPlan
from eval.locate import (
    locate_by_retrieval,
    locate_with_gear,
    measure_latency,
    score_orders,
    write_answers,
)
from eval.located_files import LocatedQuestion, read_located
from indexes.errors import InvalidInput, MalformedInput, NotFound
from rag.config import Settings
from rag.progress import Silent
from rag.retrievers.retriever import parse_specs

sys.path.insert(0, str(Path(__file__).parents[1] / "rag" / "gear"))

from toy_gear import save_base, toy_locator

TEXT = "The bridge opened in 1907. A flood took it. In 1907 a mill stood here."
ASKED = [
    LocatedQuestion("a", "when did the bridge open?", "Bridge", TEXT, [(21, 25)]),
    LocatedQuestion("b", "what took the bridge?", "Bridge", TEXT, [(27, 34)]),
    LocatedQuestion("c", "what stood here?", "Bridge", TEXT, [(52, 58)]),
]


def squad(path: Path, start: int = 21) -> Path:
    answers = [{"text": "1907", "answer_start": start}]
    asked = [
        {"id": "a", "question": "when?", "answers": answers},
        {"id": "b", "question": "why?", "answers": [], "is_impossible": True},
    ]
    paragraph = {"context": TEXT, "qas": asked}
    path.write_text(json.dumps({"data": [{"title": "A_Bridge", "paragraphs": [paragraph]}]}))
    return path


def test_squad_answers_have_their_own_places(tmp_path):
    (found,) = read_located(squad(tmp_path / "dev.json", 47))
    assert found == LocatedQuestion("a", "when?", "A Bridge", TEXT, [(47, 51)])


def test_qed_answers_have_their_own_places(tmp_path):
    path = tmp_path / "dev.jsonlines"
    spans = [[{"start": 27, "end": 34, "string": "A flood"}], []]
    row = {"example_id": 5, "question_text": "what?", "paragraph_text": TEXT, "title_text": "B"}
    rows = [row | {"original_nq_answers": spans}, row | {"original_nq_answers": []}]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert read_located(path) == [LocatedQuestion("nq-5", "what?", "B", TEXT, [(27, 34)])]


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(NotFound):
        read_located(tmp_path / "none.json")
    with pytest.raises(InvalidInput, match="not in its paragraph"):
        read_located(squad(tmp_path / "dev.json", 10**6))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(MalformedInput):
        read_located(tmp_path / "bad.json")
    (tmp_path / "other.json").write_text('{"data": 1}')
    with pytest.raises(InvalidInput, match="no SQuAD file"):
        read_located(tmp_path / "other.json")


def test_recall_and_tests_are_counted_over_the_same_questions():
    right = {"a": [0, 1, 2], "b": [1, 0, 2], "c": [2, 0, 1]}
    wrong = {"a": [2, 0, 1], "b": [1, 0, 2], "c": [0, 1, 2]}
    record = score_orders("toy", ASKED, {"right": right, "wrong": wrong})
    assert record.n_sentences == 3
    assert record.measures["right"] == {"R@1": 1.0, "R@3": 1.0}
    assert record.measures["wrong"] == {"R@1": pytest.approx(1 / 3), "R@3": 1.0}
    first = next(one for one in record.comparisons if one.measure == "R@1")
    assert (first.wins, first.ties, first.losses) == (0, 1, 2)


def test_retrieval_ranks_only_the_paragraphs_own_sentences(tmp_path):
    other = LocatedQuestion("d", "what took the bridge?", "", "Sheep graze. Bridge took.", [(0, 5)])
    settings = Settings(root=tmp_path / "root", cache=tmp_path / "cache")
    plan = IndexPlan(parse_specs("bm25"))
    found = locate_by_retrieval([*ASKED, other], plan, "sentences", settings, Silent())
    assert found["a"][0] == 0
    assert found["b"][0] == 1
    assert found["c"][0] == 2
    assert found["d"] == [1, 0]


def test_gear_orders_every_sentence_and_is_timed(tmp_path):
    locator = toy_locator(save_base(tmp_path / "base"))
    for how in ("attention", "reader"):
        orders = locate_with_gear(locator, ASKED, how, Silent())
        assert all(sorted(order) == [0, 1, 2] for order in orders.values())
    found = measure_latency(locator, ASKED, 2, 3, seed=0)
    assert found.ms_per_batch == pytest.approx(2 * found.ms_per_hit)
    assert found.ms_per_batch > 0
    for measures in write_answers(locator, ASKED, Silent()).values():
        assert 0 <= measures["EM"] <= measures["F1"] <= 1
