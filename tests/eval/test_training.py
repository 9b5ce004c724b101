"""The dev measure of training runs against the harness's own way, and the command."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "rag" / "train"))
sys.path.insert(0, str(Path(__file__).parents[1] / "rag" / "retrievers"))

from toy_checkpoints import save_bert
from toy_sets import write_qrels, write_toy

from eval.training import dev_sets, sparse_measure, sparse_scores
from indexes.representation import QueryVector, SparseRows, SparseVector
from rag.cli.main import main
from rag.config import Settings
from rag.train.pairs import PairSource

RECIPE = """
model = "{model}"
[[data]]
name = "toy"
folder = "toy"
[[dev]]
name = "dev"
folder = "toy"
split = "dev"
[mining]
retrievers = "bm25"
weights = [1.0]
[loss]
n_negatives = 2
[loop]
n_steps = 3
batch_size = 4
"""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("mlm"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = write_toy(tmp_path / "data" / "toy")
    graded = [(f"q{n}", f"d{m}", grade) for n in range(6) for m, grade in ((n, 2), (n + 9, 1))]
    write_qrels(folder / "qrels" / "dev.tsv", graded)
    return tmp_path / "data"


@given(n=st.integers(1, 5), m=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_scores_are_dot_products(n, m, seed):
    generator = np.random.default_rng(seed)
    terms = [f"t{number}" for number in range(7)]
    documents = generator.random((n, 7)).astype(np.float32) * (generator.random((n, 7)) < 0.5)
    queries = generator.random((m, 7)).astype(np.float32) * (generator.random((m, 7)) < 0.5)
    at, ids = np.nonzero(documents)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=n))]).astype(np.int64)
    rows = SparseRows(terms, indptr, ids.astype(np.uint32), documents[at, ids])
    asked = [
        QueryVector(SparseVector([terms[j] for j in np.flatnonzero(row)], row[row > 0].tolist()))
        for row in queries
    ]
    np.testing.assert_allclose(sparse_scores(rows, asked), queries @ documents.T, rtol=1e-5)


def test_the_measure_is_what_rag_eval_beir_says(bert, data, tmp_path, capsys):
    settings = Settings(root=tmp_path / "root", cache=tmp_path / "cache")
    sets = dev_sets(data, [PairSource("dev", "toy", split="dev")])
    found = sparse_measure(sets, settings)(bert, [])
    arguments = ["eval", "beir", str(data / "toy"), "--split", "dev", "--timed", "0", "--json"]
    arguments += ["--retrievers", f"mine={bert}:kind=splade", "--search", "mine"]
    arguments += ["--root", str(settings.root), "--cache", str(settings.cache)]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)["measures"]
    assert found["dev nDCG@10"] == found["nDCG@10"] == pytest.approx(said["nDCG@10"], abs=1e-5)
    assert found["dev R@100"] == pytest.approx(said["R@100"], abs=1e-5)
    assert 0 < found["nDCG@10"] < 1
    assert found["terms_document"] > found["terms_query"] > 0


@pytest.mark.slow
def test_the_command_trains_and_says_what_came_of_it(bert, data, tmp_path, capsys):
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE.format(model=bert))
    out = tmp_path / "out"
    arguments = ["train", "splade", "--recipe", str(recipe), "--data", str(data)]
    arguments += ["--out", str(out), "--cache", str(tmp_path / "cache")]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n_steps"] == 3
    assert "dev nDCG@10" in report["after"]
    assert main(arguments) == 0
    assert str(out / "model") in capsys.readouterr().out
    card = (out / "model" / "README.md").read_text()
    assert "rag train splade --recipe toy.toml --data DATA --out OUT" in card
    assert str(tmp_path) not in card.replace(str(bert), "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--backbone", "decoder"], "for backbone 'masked'"),
        (["--recipe", "nothing"], "no recipe 'nothing'"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_usage_is_one_sentence(bert, data, tmp_path, capsys, changes, words):
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE.format(model=bert))
    arguments = ["train", "splade", "--recipe", str(recipe), "--data", str(data)]
    arguments += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert main([*arguments, *changes]) in (1, 2)
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_in_the_background_it_outlives_the_command(bert, data, tmp_path, capsys):
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE.format(model=bert))
    out = tmp_path / "out"
    arguments = ["train", "splade", "--recipe", str(recipe), "--data", str(data), "--background"]
    assert main([*arguments, "--out", str(out), "--cache", str(tmp_path / "cache")]) == 0
    assert "train.log" in capsys.readouterr().out
    card = out / "model" / "README.md"
    until = time.monotonic() + 120
    while not card.exists() and time.monotonic() < until:
        time.sleep(0.2)
    assert card.exists(), (out / "train.log").read_text()


def test_distilling_says_which_lines_were_not_read(tiny_generator, tmp_path, capsys):
    file, out = tmp_path / "texts.jsonl", tmp_path / "pairs.jsonl"
    command = ["train", "distil", "--input", str(file), "--out", str(out), "--pieces", "1"]
    command += ["--teacher", str(tiny_generator), "--cache", str(tmp_path / "cache")]
    file.write_text('{"text": "No id."}\n{"id": "b", "text": ""}\n')
    assert main(command) != 0
    told = capsys.readouterr().err
    assert "holds no text: 2 not read, see" in told
    rejects = out.with_suffix(".rejects.jsonl")
    reasons = [json.loads(line)["reason"] for line in rejects.read_text().splitlines()]
    assert len(reasons) == 2
    assert "id" in reasons[0]
    file.write_text('{"text": "No id."}\n{"id": "a", "text": "Foxes eat."}\n')
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["pairs"] == 1
    assert f"1 not read; {rejects} says why" in captured.err
