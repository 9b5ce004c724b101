"""`rag train gear` on a toy encoder: the whole way, through kills, and what it learns."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from eval.gear_training import gear_measure
from rag.config import Settings
from rag.gear.locator import open_locator
from rag.gear.shape import read_shape
from rag.models.resolver import resolve
from rag.progress import Silent
from rag.retrievers.opening import entry_of
from rag.retrievers.retriever import parse_spec
from rag.train.curve import read_curve
from rag.train.gear import task as gear_task
from rag.train.gear.recipe import GearRecipe
from rag.train.gear.run import GearRequest, train_gear
from rag.train.recipe import read_recipe

CARD = ("rag train gear --recipe toy", "seed 3", "toy (train)", "| located by reader |", "made")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path / "root", cache=tmp_path / "cache")


def trained(
    settings: Settings,
    text: str,
    data: Path,
    out: Path,
    *,
    finish: bool = False,
    start: str = "",
):
    file = out.parent / "toy.toml"
    file.write_text(text)
    request = GearRequest(
        recipe_name="toy",
        recipe=read_recipe(str(file), GearRecipe),
        data=data,
        out=out,
        command="rag train gear --recipe toy",
        machine="a machine",
        start=start,
        finish=finish,
    )
    return train_gear(request, settings, Silent(), gear_measure(settings))


@pytest.mark.slow
def test_a_run_leaves_a_model_that_opens_a_card_and_curves(data, recipe_text, settings, tmp_path):
    report = trained(settings, recipe_text, data, tmp_path / "out")
    folder = Path(report.model)
    card = (folder / "README.md").read_text()
    assert all(words in card for words in CARD)
    assert [point.step for point in read_curve(folder / "curve.jsonl")] == list(range(7))
    better = max(("attention", "reader"), key=lambda how: report.after[f"located by {how}"])
    assert read_shape(folder).aggregation == better
    model = resolve(str(folder), settings.cache)
    locator = open_locator(model, settings.cache, device="cpu", batch_tokens=512)
    (found,) = locator.locate("what of the tree", [("", "The tree is red. The road is blue.")])
    assert {(one.start, one.end) for one in found} == {(0, 16), (17, 34)}
    assert entry_of(parse_spec(f"mine={folder}"), settings, Silent()).kind == "gear"


@pytest.mark.slow
def test_a_run_goes_on_from_another_models_weights(data, recipe_text, settings, tmp_path):
    first = Path(trained(settings, recipe_text, data, tmp_path / "first").model)
    still = recipe_text.replace("n_steps = 6", "n_steps = 1").replace("5e-3", "1e-12")
    assert still.count("1e-12") == 1
    second = Path(trained(settings, still, data, tmp_path / "out", start=str(first)).model)
    before, after = (load_file(one / "model.safetensors") for one in (first, second))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-3) for name in before)
    card = (second / "README.md").read_text()
    assert resolve(str(first), settings.cache).sha256[:16] in card


@pytest.mark.slow
def test_what_has_no_pace_stays_as_it_is(data, recipe_text, settings, tmp_path):
    first = Path(trained(settings, recipe_text, data, tmp_path / "first").model)
    reader = recipe_text.replace('"encoder." = 0.5', '"reader." = 1.0\n"" = 0.0')
    report = trained(settings, reader, data, tmp_path / "out", start=str(first))
    points = read_curve(tmp_path / "out" / "curve.jsonl")
    assert any(point.gradient_norm > 0 for point in points)
    before = load_file(first / "model.safetensors")
    last = load_file(tmp_path / "out" / "checkpoint" / f"step-{report.n_steps:08}.safetensors")
    for name, tensor in before.items():
        same = torch.equal(tensor, last[f"task.{name}"].half())
        assert same != name.startswith("reader."), name


@pytest.mark.slow
def test_it_learns_where_the_answer_is(data, recipe_text, settings, tmp_path):
    more = recipe_text.replace("n_steps = 6", "n_steps = 160").replace(
        "measure_every = 3", "measure_every = 80"
    )
    report = trained(settings, more, data, tmp_path / "out")
    by = "located by attention"
    assert report.after[by] >= report.before[by] + 0.2


@pytest.mark.slow
def test_pointing_at_a_middle_layer_is_trained_without_retrieval(
    data, recipe_text, settings, tmp_path
):
    first = Path(trained(settings, recipe_text, data, tmp_path / "first").model)
    changes = {
        "n_shared = 1": "n_shared = 1\nmemory_layer = 1",
        "queue = 32": "contrastive = 0.0\nqueue = 0",
        '"encoder." = 0.5': '"encoder." = 0.0',
    }
    text = recipe_text
    for old, new in changes.items():
        text = text.replace(old, new)
    report = trained(settings, text, data, tmp_path / "out", start=str(first))
    assert read_shape(Path(report.model)).memory_layer == 1
    points = read_curve(tmp_path / "out" / "curve.jsonl")[1:]
    assert not any(point.parts["contrastive"] for point in points)
    before = load_file(first / "model.safetensors")
    last = load_file(tmp_path / "out" / "checkpoint" / f"step-{report.n_steps:08}.safetensors")
    for name, tensor in before.items():
        same = torch.equal(tensor, last[f"task.{name}"].half())
        assert same == name.startswith("encoder."), name


@pytest.mark.slow
@pytest.mark.parametrize("dies_at", [1, 4])
def test_a_run_that_died_goes_on_to_the_same_curve_and_weights(
    data, recipe_text, settings, tmp_path, monkeypatch, dies_at
):
    trained(settings, recipe_text, data, tmp_path / "whole")
    update = gear_task.GearTask.after_update

    def dies(task: gear_task.GearTask, step: int) -> None:
        update(task, step)
        if step == dies_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gear_task.GearTask, "after_update", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(settings, recipe_text, data, tmp_path / "cut")
    report = trained(settings, recipe_text, data, tmp_path / "cut")
    assert report.sittings == 2
    for name in ("curve.jsonl", "model/model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    "name", ["gear-minilm", "gear-minilm-further", "gear-minilm-middle", "gear-minilm-gpu"]
)
def test_the_recipes_that_come_with_the_product_are_valid(name):
    recipe = read_recipe(name, GearRecipe)
    assert recipe.loss.alpha == 0.25
    measured = {"qa/squad_v2_dev_cs224n/beir/qrels/dev.tsv", "qa/qed/beir/qrels/dev.tsv"}
    assert measured <= set(recipe.avoid)
    assert not any("hotpot" in one.folder for one in recipe.data)
    assert msgspec.to_builtins(recipe)


@pytest.mark.slow
def test_an_interrupted_run_can_be_ended_where_it_stands(
    data, recipe_text, settings, tmp_path, monkeypatch
):
    update = gear_task.GearTask.after_update

    def dies(task: gear_task.GearTask, step: int) -> None:
        update(task, step)
        if step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gear_task.GearTask, "after_update", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(settings, recipe_text, data, tmp_path / "out")
    report = trained(settings, recipe_text, data, tmp_path / "out", finish=True)
    assert report.n_steps == 4
    points = read_curve(Path(report.model) / "curve.jsonl")
    assert [point.step for point in points if point.measures] == [0, 3, 4]
    assert "4 steps of the recipe's 6" in (Path(report.model) / "README.md").read_text()
    assert trained(settings, recipe_text, data, tmp_path / "out").n_steps == 4
