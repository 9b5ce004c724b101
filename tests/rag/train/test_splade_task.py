"""The task's loss, put together again from what the retriever encodes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_checkpoints import VOCABULARY, open_splade, passage_weights

from rag.config import Settings
from rag.progress import Silent
from rag.train import splade_task
from rag.train.pairs import text_digest
from rag.train.recipe import read_recipe
from rag.train.splade_data import read_sets
from rag.train.splade_recipe import SpladeRecipe
from rag.train.splade_task import SpladeTask
from rag.train.vocabulary_network import VocabularyNetwork

LOSS = (
    "contrastive = 0.7\nmargin = 0.2\nkl = 0.5\ntemperature = 2.0\nteacher_scale = 3.0\n"
    'query_regulariser = "l1"\nlambda_query = 0.1\nlambda_document = 0.2\nramp = 0.5\n'
    "anti_zero = 2.0"
)


def made(model: Path, data: Path, recipe_file, tmp_path: Path, top: str = "") -> SpladeTask:
    recipe = read_recipe(str(recipe_file(model, top=top, loss=LOSS, n_steps=40)), SpladeRecipe)
    settings = Settings(root=tmp_path / "root", cache=tmp_path / "cache")
    sets, dev = read_sets(recipe, data, settings, Silent())
    network = VocabularyNetwork(model, recipe.backbone, max_tokens=32, device="cpu")
    return SpladeTask(network, sets, recipe, dev, lambda *_: {}, tmp_path / "candidate")


def test_a_text_is_encoded_alike_alone_and_in_any_batch(
    bert, toy_data, recipe_file, tmp_path, monkeypatch
):
    task = made(bert, toy_data, recipe_file, tmp_path)
    task.network.train(dropout=False)
    texts = ["cat", "tiger oak . river stone cat dog", "fish fish fish", "bird ."]
    alone = torch.cat([task.encode([text]) for text in texts])
    torch.testing.assert_close(task.encode(texts), alone, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(splade_task, "CHUNK_TOKENS", 10)
    torch.testing.assert_close(task.encode(texts), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["masked", "decoder"])
def test_it_encodes_what_the_retriever_encodes(
    bert, llama, toy_data, recipe_file, tmp_path, backbone
):
    model = bert if backbone == "masked" else llama
    task = made(model, toy_data, recipe_file, tmp_path, f'backbone = "{backbone}"')
    task.network.save(tmp_path / "saved")
    texts = ["tiger oak . river stone cat dog", "bird ."]
    expected = passage_weights(open_splade(tmp_path / "saved"), texts)
    weights = task.encode(texts).detach().tolist()
    for row, terms in zip(weights, expected, strict=True):
        found = {VOCABULARY[number]: weight for number, weight in enumerate(row) if weight > 0}
        assert found == pytest.approx(terms, rel=1e-4, abs=1e-5)


def test_the_loss_is_the_sum_that_the_recipe_says(bert, toy_data, recipe_file, tmp_path):
    task = made(bert, toy_data, recipe_file, tmp_path)
    step = 7
    examples = task.examples(step)
    found = {name: value.item() for name, value in task.losses(examples, step).items()}
    pairs = task._sets[0].pairs
    queries = task.encode([pairs.queries[one.number].text for one in examples]).detach().numpy()
    rows = [row for one in examples for row in one.rows]
    passages = task.encode([pairs.documents[row].text for row in rows]).detach().numpy()
    contrastive, margins, divergences = [], [], []
    for place, one in enumerate(examples):
        scores = passages @ queries[place]
        copies = {text_digest(pairs.documents[row].text) for row in one.rows[:1]}
        target = place * len(one.rows)
        kept = [
            column
            for column, row in enumerate(rows)
            if column == target or text_digest(pairs.documents[row].text) not in copies
        ]
        total = sum(math.exp(scores[column] / 2) for column in kept)
        contrastive.append(-math.log(math.exp(scores[target] / 2) / total))
        own = scores[target : target + len(one.rows)].astype(np.float64)
        teacher = np.array(one.teacher) * 3
        margins += [(own[0] - own[j] - (teacher[0] - teacher[j])) ** 2 for j in range(1, len(own))]
        p = np.exp(teacher / 2) / np.exp(teacher / 2).sum()
        q = np.exp(own / 2) / np.exp(own / 2).sum()
        divergences.append((p * np.log(p / q)).sum())
    sparsity_query = queries.sum(1).mean()
    sparsity_document = (passages.mean(0) ** 2).sum()
    ramp = (step / 20) ** 2
    expected = 0.7 * np.mean(contrastive) + 0.2 * np.mean(margins) + 0.5 * np.mean(divergences)
    expected += ramp * (0.1 * sparsity_query + 0.2 * sparsity_document)
    expected += 2 / queries.sum(1).mean() ** 2 + 2 / passages.sum(1).mean() ** 2
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert found["terms_query"] == pytest.approx((queries > 0).sum(1).mean())
    assert found["terms_document"] == pytest.approx((passages > 0).sum(1).mean())


def test_a_batch_with_the_same_paragraph_twice_masks_it(bert, toy_data, recipe_file, tmp_path):
    """Two questions about copies of one paragraph do not push each other's away."""
    corpus = toy_data / "toy" / "corpus.jsonl"
    lines = corpus.read_text().splitlines()
    lines[1] = lines[0].replace('"d0"', '"d1"')
    corpus.write_text("\n".join(lines) + "\n")
    task = made(bert, toy_data, recipe_file, tmp_path)
    chosen = task._sets[0]
    place = {one.id: number for number, one in enumerate(chosen.pairs.queries)}
    first = next(iter(task.examples(0)))
    pair = [
        type(first)(0, place[key], [chosen.pairs.queries[place[key]].positives[0], 7, 8], [1, 0, 0])
        for key in ("q0", "q1")
    ]
    masked = splade_task.masked_answers(chosen, pair)
    assert masked == [
        [False, False, False, True, False, False],
        [True, False, False, False, False, False],
    ]
