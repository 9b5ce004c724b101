"""`rag train dupmae` on a toy encoder: the whole way, again, and its losses."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_checkpoints import save_bert
from toy_duplex import TEXTS, open_duplex, sentence_encoder, toy_recipe
from toy_sets import WORDS, write_toy

from eval.training import duplex_measure, sparse_scores
from indexes.errors import Conflict, InvalidInput, UsageError
from rag.config import Settings
from rag.models.resolver import resolve
from rag.progress import Silent
from rag.train.curve import read_curve
from rag.train.dupmae.network import DuplexNetwork
from rag.train.dupmae.passages import read_passages
from rag.train.dupmae.pretraining import PretrainingTask
from rag.train.dupmae.recipe import DupmaeRecipe
from rag.train.dupmae.run import train_dupmae
from rag.train.dupmae.task import DuplexTask
from rag.train.pairs import PairSource
from rag.train.recipe import read_recipe
from rag.train.splade_data import read_sets
from rag.train.training_run import TrainRequest


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return sentence_encoder(save_bert(tmp_path / "bert"), tmp_path / "base")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_toy(tmp_path / "data" / "toy")
    generator = np.random.default_rng(1)
    lines = [
        {"source": "words", "text": " ".join(generator.choice(WORDS, 9))} for _ in range(40)
    ] + [{"source": "other", "text": "oak"}]
    (tmp_path / "data" / "pretrain").mkdir()
    with gzip.open(tmp_path / "data" / "pretrain" / "passages.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return tmp_path / "data"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path / "root", cache=tmp_path / "cache", n_threads=1)


def recipe(base: Path, tmp_path: Path, *, second_steps: int = 8) -> DupmaeRecipe:
    loop = "batch_size = 8\nlearning_rate = 2e-3\nseed = 3\n"
    loss = "n_negatives = 3\nmax_tokens = 32\nkl = 0.5\nhalves = 0.5\ntie = 0.1\nn_terms = 8\n"
    path = tmp_path / "toy.toml"
    path.write_text(
        f'model = "{base}"\nn_shared_layers = 1\ndimension = 8\npooling = "mean"\nliteral = true\n'
        "max_tokens = 32\ndoc_terms = 12\nquery_terms = 6\n"
        '[[data]]\nname = "toy"\nfolder = "toy"\n'
        "[held_out]\nshare = 0.2\n"
        '[mining]\nretrievers = "bm25"\nweights = [1.0]\nn_top = 4\nn_random = 4\n'
        '[pretraining]\nsources = ["words"]\nmax_tokens = 16\nn_terms = 6\ntie = 1.0\n'
        f"sparsity = 0.01\n[pretraining.loop]\nn_steps = 30\n{loop}"
        f'[[stages]]\nname = "first"\nmeasured = false\n[stages.loss]\n{loss}'
        f"[stages.loop]\nn_steps = 6\n{loop}"
        f'[[stages]]\nname = "second"\n[stages.loss]\n{loss}'
        f"[stages.loop]\nn_steps = {second_steps}\nmeasure_every = 4\n{loop}",
        encoding="utf-8",
    )
    return read_recipe(str(path), DupmaeRecipe)


def trained(settings: Settings, chosen: DupmaeRecipe, data: Path, out: Path):
    request = TrainRequest(
        recipe_name="toy",
        recipe=chosen,
        data=data,
        out=out,
        command="rag train dupmae --recipe toy",
        machine="a machine",
    )
    return train_dupmae(request, settings, Silent(), duplex_measure([], settings))


@pytest.mark.slow
def test_a_run_leaves_a_model_a_card_and_curves(base, data, settings, tmp_path):
    chosen, out = recipe(base, tmp_path), tmp_path / "out"
    report = trained(settings, chosen, data, out)
    assert [phase.name for phase in report.phases] == ["pretraining", "first", "second"]
    assert [phase.n_steps for phase in report.phases] == [30, 6, 8]
    folder = Path(report.model)
    card = (folder / "README.md").read_text()
    for words in (
        "rag train dupmae --recipe toy",
        "toy (train)",
        "| nDCG@10 |",
        "words",
        "lexical",
    ):
        assert words in card
    curves = {n: read_curve(folder / f"curve-{n}.jsonl") for n in ("pretraining", "second")}
    losses = [point.loss for point in curves["pretraining"] if point.step]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert [point.step for point in curves["second"] if point.measures] == [0, 4, 8]
    tensors = load_file(folder / "model.safetensors")
    assert {one.dtype for one in tensors.values()} == {torch.float16}
    assert not any(name.startswith("encoder.layer.0.") for name in tensors)
    retriever = open_duplex(folder, settings.cache)
    assert retriever.encode_passages(TEXTS, lambda _: None).dense.shape == (len(TEXTS), 8)

    # What is finished is not begun again; a stage that is lost is made again to the last bit.
    again = trained(settings, chosen, data, out)
    assert [p.after for p in again.phases] == [p.after for p in report.phases]
    shutil.rmtree(out / "second")
    trained(settings, chosen, data, out)
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(tensor, tensors[name]), name
    # Other stages begin with the same pre-training, another pre-training does not.
    with pytest.raises(Conflict):
        trained(settings, recipe(base, tmp_path, second_steps=9), data, out)
    shutil.rmtree(out / "first")
    shutil.rmtree(out / "second")
    before = (out / "pretraining" / "curve.jsonl").read_bytes()
    trained(settings, recipe(base, tmp_path, second_steps=4), data, out)
    assert (out / "pretraining" / "curve.jsonl").read_bytes() == before


def test_scores_in_training_are_those_of_the_retriever(base, data, settings, tmp_path):
    """Pooling over the questions' terms only is exact: the same scores as from whole vectors."""
    chosen = msgspec.structs.replace(recipe(base, tmp_path), doc_terms=1000)
    network = DuplexNetwork(resolve(str(base), settings.cache), chosen, TEXTS, device="cpu", seed=2)
    with torch.no_grad():
        for parameter in network.model.trained().values():
            parameter.add_(0.2 * torch.randn(parameter.shape))
            parameter.copy_(parameter.half().float())
    sets, dev = read_sets(chosen, data, settings, Silent())
    measure = duplex_measure([], settings)
    task = DuplexTask(network, sets, chosen.stages[1], dev, measure, tmp_path / "candidate")
    questions = ["cat dog", "oak . tree"]
    with torch.no_grad():
        asked = task.query_weights(task.encode(questions))
        passages = task.encode(TEXTS)
        lexical, _ = task.lexical_scores(asked, passages)
        scale = network.dense_scale.exp()
        dense = scale * task.encode(questions).dense @ passages.dense.t()
    network.save(tmp_path / "saved")
    retriever = open_duplex(tmp_path / "saved", settings.cache)
    found = retriever.encode_passages(TEXTS, lambda _: None)
    queries = [one.vector for one in retriever.encode_queries(questions)]
    assert found.sparse is not None
    np.testing.assert_allclose(sparse_scores(found.sparse, queries), lexical, atol=2e-4)
    theirs = np.stack([q.dense for q in queries]) @ found.dense.T
    np.testing.assert_allclose(theirs, dense, atol=2e-3)


def test_a_fresh_dense_half_is_the_base_in_fewer_dimensions(base, settings):
    """All directions kept, nothing trained: the cosine of two texts is the base's own."""
    network = DuplexNetwork(
        resolve(str(base), settings.cache),
        toy_recipe(base, dimension=16),
        TEXTS,
        device="cpu",
        seed=1,
    )
    with torch.no_grad():
        states, mask, lower = network.states(network.rows(TEXTS, 32))
        ours = network.model.dense(states, mask)
        own = network.embedding(lower, mask)
    torch.testing.assert_close(ours @ ours.t(), own @ own.t(), atol=1e-5, rtol=0)


def test_pretraining_losses_over_all_terms_and_over_some(base, settings):
    """With every term drawn the sampled softmax is the whole one."""
    chosen = toy_recipe(base)
    network = DuplexNetwork(resolve(str(base), settings.cache), chosen, TEXTS, device="cpu", seed=1)
    found = []
    for n_terms in (0, 5000):
        config = msgspec.structs.replace(chosen.pretraining, n_terms=n_terms)
        torch.manual_seed(1)
        task = PretrainingTask(network, TEXTS, config)
        torch.manual_seed(1)
        found.append(task.losses(TEXTS, 0))
    for name in ("mlm", "bag_of_words"):
        assert found[0][name].item() == pytest.approx(found[1][name].item(), rel=1e-5)


def test_recipes_and_passages_that_make_no_sense(base, data, tmp_path):
    chosen = recipe(base, tmp_path)
    with pytest.raises(ValueError, match="one name"):
        msgspec.structs.replace(chosen, data=(PairSource("a", "b"), PairSource("a", "c")))
    last = msgspec.structs.replace(chosen.stages[1], measured=False)
    with pytest.raises(ValueError, match="measured"):
        msgspec.structs.replace(chosen, stages=(last,))
    (tmp_path / "bad.toml").write_text('model = "x"\nn_shared = 1\n')
    with pytest.raises(UsageError, match="n_shared"):
        read_recipe(str(tmp_path / "bad.toml"), DupmaeRecipe)
    file = data / "pretrain" / "passages.jsonl.gz"
    assert read_passages(file, ["other"]).texts == ["oak"]
    assert len(read_passages(file, []).texts) == 41
    with pytest.raises(InvalidInput, match="nothere"):
        read_passages(file, ["nothere"])


def test_the_recipes_that_ship_are_read():
    small, large = (read_recipe(f"dupmae-{name}", DupmaeRecipe) for name in ("minilm", "gpu"))
    assert (small.pooling, large.pooling) == ("mean", "cls")
    assert small.avoid == large.avoid
