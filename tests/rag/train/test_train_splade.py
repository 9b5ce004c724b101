"""`rag train splade` on toy checkpoints: the whole way, again, and through kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from toy_sets import write_qrels, write_toy

from eval.training import sparse_measure
from indexes.errors import Conflict, ModelError, UsageError
from rag.cli.main import main
from rag.config import Settings
from rag.progress import Silent
from rag.train import splade_task
from rag.train.curve import read_curve
from rag.train.recipe import read_recipe
from rag.train.splade import check_backbone, train_splade
from rag.train.splade_recipe import SpladeRecipe
from rag.train.training_run import TrainRequest

CARD = ("rag train splade --recipe toy", "seed 3", "toy (train)", "| nDCG@10 |", "a machine")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path / "root", cache=tmp_path / "cache")


def trained(settings: Settings, recipe: Path, data: Path, out: Path, **changes: object):
    request = TrainRequest(
        recipe_name="toy",
        recipe=read_recipe(str(recipe), SpladeRecipe),
        data=data,
        out=out,
        command="rag train splade --recipe toy",
        machine="a machine",
    )
    request = msgspec.structs.replace(request, **changes)
    return train_splade(request, settings, Silent(), sparse_measure([], settings))


@pytest.mark.slow
def test_a_run_leaves_a_model_a_card_and_curves(bert, toy_data, recipe_file, settings, tmp_path):
    recipe = recipe_file(bert, n_steps=30, measure_every=10)
    report = trained(settings, recipe, toy_data, tmp_path / "out")
    folder = Path(report.model)
    card = (folder / "README.md").read_text()
    assert all(words in card for words in CARD)
    points = read_curve(folder / "curve.jsonl")
    assert [point.step for point in points] == list(range(31))
    assert [point.step for point in points if point.measures] == [0, 10, 20, 30]
    assert report.after["nDCG@10"] == max(p.measures["nDCG@10"] for p in points if p.measures)
    assert "<svg" in (folder / "curves.svg").read_text()
    losses = [point.loss for point in points[1:]]
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.slow
def test_what_was_trained_opens_as_a_retriever(bert, toy_data, recipe_file, settings, tmp_path):
    report = trained(settings, recipe_file(bert), toy_data, tmp_path / "out")
    flags = ["--root", str(settings.root), "--cache", str(settings.cache)]
    corpus = str(toy_data / "toy" / "corpus.jsonl")
    build = ["index", "build", "mine", "--input", corpus]
    assert main([*flags, *build, "--retrievers", f"mine={report.model}:kind=splade"]) == 0
    assert main([*flags, "search", "mine", "tiger oak", "--json"]) == 0


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_another(
    bert, toy_data, recipe_file, settings, tmp_path
):
    curves = []
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        trained(settings, recipe_file(bert, seed=seed), toy_data, tmp_path / name)
        curves.append((tmp_path / name / "curve.jsonl").read_bytes())
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


@pytest.mark.slow
@pytest.mark.parametrize("dies_at", [1, 5, 6, 9])
def test_a_run_that_died_anywhere_goes_on_to_the_same_curve_and_weights(
    bert, toy_data, recipe_file, settings, tmp_path, monkeypatch, dies_at
):
    recipe = recipe_file(
        bert, loss="dropout = true", n_steps=10, save_every=3, measure_every=5, accumulate=2
    )
    trained(settings, recipe, toy_data, tmp_path / "whole")
    update = splade_task.SpladeTask.after_update

    def dies(task: splade_task.SpladeTask, step: int) -> None:
        update(task, step)
        if step == dies_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(splade_task.SpladeTask, "after_update", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(settings, recipe, toy_data, tmp_path / "cut")
    report = trained(settings, recipe, toy_data, tmp_path / "cut")
    assert report.sittings == 2
    for name in ("curve.jsonl", "model/model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_finished_run_is_not_done_again_and_restart_does_it(
    bert, toy_data, recipe_file, settings, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    recipe = recipe_file(bert)
    first = trained(settings, recipe, toy_data, out)
    with monkeypatch.context() as patch:
        patch.setattr(splade_task.SpladeTask, "losses", lambda *_: pytest.fail("trained again"))
        assert trained(settings, recipe, toy_data, out) == first
    curve = (out / "curve.jsonl").read_bytes()
    with pytest.raises(Conflict, match="--restart"):
        trained(settings, recipe_file(bert, n_steps=7), toy_data, out)
    trained(settings, recipe_file(bert), toy_data, out, restart=True)
    assert (out / "curve.jsonl").read_bytes() == curve


@pytest.mark.slow
def test_half_precision_comes_near(bert, toy_data, recipe_file, settings, tmp_path):
    """What a GPU does by itself, asked for on a CPU."""
    curves = []
    for precision in ("float32", "bfloat16"):
        recipe = recipe_file(bert, precision=precision)
        trained(settings, recipe, toy_data, tmp_path / precision)
        points = read_curve(tmp_path / precision / "curve.jsonl")
        curves.append([point.loss for point in points if point.loss])
    assert curves[1] == pytest.approx(curves[0], rel=0.1)
    assert curves[1] != curves[0]


@pytest.mark.slow
def test_accumulated_parts_make_one_update(bert, toy_data, recipe_file, settings, tmp_path):
    """Without the losses that look across the batch, two halves are the whole."""
    loss = "contrastive = 0\nlambda_query = 0\nlambda_document = 0\nanti_zero = 0"
    for name, parts in (("whole", 1), ("halves", 2)):
        recipe = recipe_file(bert, loss=loss, accumulate=parts)
        trained(settings, recipe, toy_data, tmp_path / name)
    whole, halves = (
        [point.loss for point in read_curve(tmp_path / name / "curve.jsonl") if point.loss]
        for name in ("whole", "halves")
    )
    assert halves == pytest.approx(whole, rel=1e-4)


def test_vectors_that_are_all_empty_end_the_run(toy_data, recipe_file, settings, tmp_path):
    from toy_checkpoints import save_bert
    from transformers import BertForMaskedLM

    folder = save_bert(tmp_path / "dead")
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        model.cls.predictions.bias.fill_(-1e4)
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match="all vectors are empty"):
        trained(settings, recipe_file(folder), toy_data, tmp_path / "out")


@pytest.mark.slow
def test_the_anti_zero_term_keeps_a_crushed_model_alive(
    bert, toy_data, recipe_file, settings, tmp_path
):
    crushing = "lambda_query = 30.0\nlambda_document = 30.0\nramp = 0.0\n"
    terms = {}
    for name, weight in (("without", 0.0), ("with", 300.0)):
        loss = f"{crushing}anti_zero = {weight}"
        recipe = recipe_file(bert, loss=loss, n_steps=60, learning_rate=1e-2)
        try:
            trained(settings, recipe, toy_data, tmp_path / name)
        except ModelError:
            terms[name] = 0.0
        else:
            points = read_curve(tmp_path / name / "curve.jsonl")
            terms[name] = points[-1].parts["terms_query"]
    assert terms["with"] > 1 > terms["without"]


@pytest.mark.slow
def test_what_is_measured_on_later_is_not_trained_on(bert, recipe_file, settings, tmp_path):
    data = tmp_path / "data"
    write_toy(data / "toy")
    other = write_toy(data / "other", n_documents=5)
    write_qrels(other / "qrels" / "test.tsv", [("q1", "d2", 1)])
    report = {}
    for name, top in (("all", ""), ("some", 'avoid = ["other/qrels/test.tsv"]')):
        recipe = recipe_file(bert, top=top, n_steps=1)
        trained(settings, recipe, data, tmp_path / name)
        card = (tmp_path / name / "model" / "README.md").read_text()
        report[name] = int(card.split("| toy (train) | ")[1].split(" ")[0])
    assert report["some"] < report["all"]


@pytest.mark.slow
def test_echo_splade_adapts_then_trains_adapters(llama, toy_data, recipe_file, settings, tmp_path):
    top = (
        'backbone = "decoder"\n[low_rank]\nrank = 2\n'
        "[adaptation]\nmax_tokens = 16\nloop = { n_steps = 8, batch_size = 4, seed = 1 }\n"
    )
    recipe = recipe_file(llama, top=top, n_steps=20, measure_every=5, learning_rate=2e-2)
    out = tmp_path / "out"
    report = trained(settings, recipe, toy_data, out)
    adapted = read_curve(out / "adaptation" / "curve.jsonl")
    assert len(adapted) == 8
    assert {"plain", "sparse", "positive"} == set(adapted[0].parts)
    before = load_file(out / "adaptation" / "model" / "model.safetensors")
    after = load_file(Path(report.model) / "model.safetensors")
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.endswith("proj.weight") for name in changed)
    curve = (out / "curve.jsonl").read_bytes()
    trained(settings, recipe, toy_data, out, restart=True)
    assert (out / "curve.jsonl").read_bytes() == curve


def test_the_recipe_and_the_backbone_must_agree(bert, llama, toy_data, recipe_file, settings):
    recipe = read_recipe(str(recipe_file(bert)), SpladeRecipe)
    with pytest.raises(UsageError, match="masked"):
        check_backbone(recipe, "decoder")
    with pytest.raises(UsageError, match="causal"):
        trained(settings, recipe_file(llama), toy_data, toy_data / "out")


@pytest.mark.slow
def test_killed_again_and_again_the_command_comes_to_the_same_curve(
    bert, toy_data, recipe_file, tmp_path
):
    recipe = recipe_file(bert, n_steps=150, save_every=4, measure_every=60)

    def command(out: str) -> list[str]:
        flags = ["--cache", str(tmp_path / "cache"), "--threads", "1", "--data", str(toy_data)]
        python = [sys.executable, "-m", "rag.cli.main", "train", "splade"]
        return [*python, "--recipe", str(recipe), "--out", str(tmp_path / out), *flags]

    subprocess.run(command("whole"), check=True, capture_output=True)
    curve = tmp_path / "cut" / "curve.jsonl"
    n_killed = 0
    for goal in (3, 40, 90):
        process = subprocess.Popen(command("cut"), stderr=subprocess.DEVNULL)
        while process.poll() is None and (
            not curve.exists() or len(curve.read_bytes().splitlines()) < goal
        ):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        n_killed += process.wait() == -signal.SIGKILL
    done = subprocess.run(command("cut"), check=True, capture_output=True)
    assert n_killed == 3
    assert b"going on after step" in done.stderr
    for name in ("curve.jsonl", "model/model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    state = json.loads((tmp_path / "cut" / "checkpoint" / "state.json").read_text())
    assert state["sittings"] >= 3
    assert not list((tmp_path / "cut" / "checkpoint").glob("*.tmp"))
