"""Mined negatives and teacher scores, and what may not be a negative."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_sets import WORDS, write_jsonl, write_qrels, write_toy

from rag.config import Settings
from rag.progress import Silent
from rag.train import candidates
from rag.train.candidates import N_POSITIVES, Candidates, MiningConfig, mine
from rag.train.false_negatives import FalseNegatives
from rag.train.order import epoch_order
from rag.train.pairs import Pairs, PairSource, TrainingQuery, normalised, read_pairs
from rag.train.recipe import read_recipe
from rag.train.splade_data import Examples, TrainingSet
from rag.train.splade_recipe import SpladeRecipe

CONFIG = MiningConfig(retrievers="bm25", weights=(1.0,), n_top=4, n_random=3, depth=12)


@pytest.fixture
def pairs(toy_data: Path) -> Pairs:
    return read_pairs(toy_data, PairSource("toy", "toy"))


@pytest.fixture
def mined(pairs: Pairs, tmp_path: Path) -> Candidates:
    return mine_toy(pairs, tmp_path)


def mine_toy(pairs: Pairs, tmp_path: Path, config: MiningConfig = CONFIG) -> Candidates:
    settings = Settings(root=tmp_path / "root", cache=tmp_path / "cache")
    return mine(pairs, config, 5, tmp_path / "work", settings, Silent())


def test_the_top_negatives_are_the_teachers_best(pairs: Pairs, mined: Candidates):
    for number, query in enumerate(pairs.queries):
        rows, scores = mined.rows[number], mined.scores[number]
        assert rows[0] == query.positives[0]
        assert (rows[1:N_POSITIVES] == -1).all()
        negatives = rows[N_POSITIVES:][rows[N_POSITIVES:] >= 0]
        assert len(set(negatives.tolist())) == len(negatives)
        assert query.positives[0] not in negatives
        top, rest = np.split(scores[N_POSITIVES : N_POSITIVES + len(negatives)], [CONFIG.n_top])
        assert (np.diff(top) <= 0).all()
        assert top.min() >= rest.max()


def test_the_teachers_score_is_the_scaled_bm25(pairs: Pairs, mined: Candidates):
    """A document that shares no word has none; the best ranked, if anywhere, has 1."""
    for number, query in enumerate(pairs.queries):
        asked = set(query.text.split())
        for row, score in zip(mined.rows[number], mined.scores[number], strict=True):
            if row < 0 or asked.isdisjoint(pairs.documents[row].text.split()):
                assert score == 0
            else:
                assert 0 <= score <= 1 + 1e-6


def test_what_was_mined_is_kept_until_something_changes(pairs: Pairs, tmp_path, monkeypatch):
    first = mine_toy(pairs, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(candidates, "_mine_all", lambda *_: pytest.fail("mined again"))
        again = mine_toy(pairs, tmp_path)
        np.testing.assert_array_equal(first.rows, again.rows)
        with pytest.raises(pytest.fail.Exception):
            mine_toy(pairs, tmp_path, msgspec.structs.replace(CONFIG, n_random=2))


def test_a_sets_share_of_the_batches_does_not_change_what_is_mined(toy_data: Path):
    light = read_pairs(toy_data, PairSource("toy", "toy"))
    heavy = read_pairs(toy_data, PairSource("toy", "toy", weight=7.0))
    assert light.sha256 == heavy.sha256
    fewer = read_pairs(toy_data, PairSource("toy", "toy", n_queries=3))
    assert fewer.sha256 != light.sha256


def test_copies_and_documents_with_an_answer_are_never_negatives(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    texts = {
        "gold": "The tiger sleeps under an oak.",
        "copy": "the tiger sleeps -- under an OAK",
        "answer": "An oak stands by the river.",
        "part": "He soaked the stone.",
        "other": "The tiger eats fish.",
    }
    write_jsonl(
        folder / "corpus.jsonl",
        [{"_id": key, "title": "", "text": text} for key, text in texts.items()],
    )
    question = {"_id": "q", "text": "Where is the tiger?", "metadata": {"answers": ["Oak", " "]}}
    write_jsonl(folder / "queries.jsonl", [question])
    write_qrels(folder / "qrels" / "train.tsv", [("q", "gold", 1)])
    pairs = read_pairs(tmp_path, PairSource("set", "set"))
    known = FalseNegatives(pairs)
    expected = [True, True, True, False, False]
    assert known.mask(0).tolist() == expected
    assert known.among(0, range(5)) == expected
    found = mine_toy(pairs, tmp_path)
    negatives = {row for row in found.rows[0, N_POSITIVES:].tolist() if row >= 0}
    assert negatives == {3, 4}


words = st.lists(st.sampled_from([*WORDS[:4], "."]), min_size=1, max_size=4).map(" ".join)


@given(texts=st.lists(words, min_size=1, max_size=6), answers=st.lists(words, max_size=3))
def test_false_negatives_are_what_a_loop_finds(texts, answers):
    from indexes.document import Document

    pairs = Pairs(
        PairSource("set", "set"),
        [Document(str(number), text, "", {}) for number, text in enumerate(texts)],
        [TrainingQuery("q", "?", (0,), tuple(answers))],
        "",
    )
    expected = []
    for text in texts:
        heard = normalised(text).split()
        holds = False
        for answer in answers:
            said = normalised(answer).split()
            places = range(len(heard) - len(said) + 1)
            holds |= bool(said) and any(heard[at : at + len(said)] == said for at in places)
        expected.append(holds or heard == normalised(texts[0]).split())
    known = FalseNegatives(pairs)
    assert known.mask(0).tolist() == expected
    assert known.among(0, range(len(texts))) == expected


def test_examples_are_a_function_of_seed_and_step(pairs: Pairs, mined, bert, recipe_file):
    recipe = read_recipe(str(recipe_file(bert)), SpladeRecipe)
    chosen = TrainingSet(pairs, mined, list(range(5, 30)), FalseNegatives(pairs))
    in_order = [Examples([chosen], recipe)(step) for step in range(20)]
    backwards = Examples([chosen], recipe)
    assert [backwards(step) for step in reversed(range(20))] == in_order[::-1]
    for batch in in_order:
        for one in batch:
            assert one.rows[0] in pairs.queries[one.number].positives
            assert set(one.rows[1:]) <= set(mined.rows[one.number, N_POSITIVES:].tolist()) - {-1}
            assert len(one.rows) == 1 + recipe.loss.n_negatives
    first_epoch = [one.number for batch in in_order for one in batch][:25]
    assert sorted(first_epoch) == list(range(5, 30))
    assert first_epoch == [5 + place for place in epoch_order(25, recipe.loop.seed * 1000, 0)]


def test_the_same_question_of_two_sets_is_read_once_each(tmp_path: Path):
    write_toy(tmp_path / "toy")
    assert len(read_pairs(tmp_path, PairSource("toy", "toy")).queries) == 40
    write_qrels(tmp_path / "toy" / "qrels" / "test.tsv", [("q0", "d0", 1), ("q1", "d1", 1)])
    left = {query.id for query in read_pairs(tmp_path, PairSource("toy", "toy")).queries}
    assert left == {f"q{number}" for number in range(2, 40)}
