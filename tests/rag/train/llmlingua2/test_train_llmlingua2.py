"""`rag train llmlingua2` on a toy: it learns, is delivered as measured, and repeats itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from indexes.errors import Conflict, InvalidInput, MalformedInput, ModelError, UsageError
from rag.compress.classifier_model import load_classifier
from rag.compress.token_classifier import TokenClassifier
from rag.compress.words import Span
from rag.config import Settings
from rag.models.resolver import resolve
from rag.progress import Silent
from rag.train.llmlingua2.example import Example
from rag.train.llmlingua2.examples import Examples, read_examples
from rag.train.llmlingua2.meetings import read_meetings
from rag.train.llmlingua2.network import IGNORED, PreserveNetwork
from rag.train.llmlingua2.recipe import LlmLingua2Recipe, MeetingSource
from rag.train.llmlingua2.run import train_llmlingua2
from rag.train.llmlingua2.task import PreserveTask, _window
from rag.train.recipe import read_recipe
from rag.train.training_run import TrainRequest


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path / "root", cache=tmp_path / "cache")


@pytest.fixture
def recipe(recipe_text: str, tmp_path: Path) -> LlmLingua2Recipe:
    (tmp_path / "toy.toml").write_text(recipe_text)
    return read_recipe(str(tmp_path / "toy.toml"), LlmLingua2Recipe)


def trained(recipe, data, out, settings):
    request = TrainRequest("toy", recipe, data, out, "rag train llmlingua2", "a machine")
    return train_llmlingua2(request, settings, Silent())


def opened(folder, settings):
    model = resolve(str(folder), settings.cache)
    return TokenClassifier(model, cache=settings.cache, device="cpu", batch_tokens=512)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_it_learns_which_sentence_answers(recipe, data, settings, tmp_path, whole):
    if whole:
        recipe = msgspec.structs.replace(recipe, low_rank=None)
    report = trained(recipe, data, tmp_path / "out", settings)
    assert report.after["retained"] > report.before["retained"]
    assert report.after["retained@0.33"] >= 0.8
    scorer = opened(report.model, settings)
    assert scorer.reads_question
    text = "river river cat . stone cloud tree oak . cloud cloud stone oak ."
    (scored,) = scorer.score([text], "river 3")
    assert np.argmax(scored.scores) < 4
    card = (Path(report.model) / "README.md").read_text()
    assert all(words in card for words in ("seed 3", "| retained |", "a machine", "toy"))
    assert (Path(report.model) / "curve.jsonl").is_file()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(recipe, data, settings, tmp_path):
    loop = msgspec.structs.replace(recipe.loop, n_steps=6, measure_every=0)
    recipe = msgspec.structs.replace(recipe, loop=loop)
    weights = []
    for name in ("one", "two"):
        report = trained(recipe, data, tmp_path / name, settings)
        weights.append((Path(report.model) / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    other = msgspec.structs.replace(recipe, loop=msgspec.structs.replace(loop, seed=4))
    with pytest.raises(Conflict):
        trained(other, data, tmp_path / "one", settings)


class OneExample:
    """A set of one text."""

    name, weight, numbers, sha256 = "one", 1.0, [0], ""
    text = "Oak stones. River, cats! tree dogs fish bird"

    def examples(self, number, generator):
        start = self.text.index("River")
        return [Example("river 3", self.text, [Span(start, start + len("River, cats"))])]


@pytest.mark.parametrize("max_tokens", [32, 48])
def test_labels_stand_on_the_very_tokens(recipe, settings, tmp_path, max_tokens):
    base = resolve(recipe.model, settings.cache)
    network = PreserveNetwork(
        base, base_name=recipe.model, max_tokens=max_tokens, device="cpu", low_rank=None, seed=1
    )
    examples = Examples([OneExample()], [])
    task = PreserveTask(network, examples, recipe, tmp_path / "candidate", settings)
    rows = task.examples(5)
    assert rows == task.examples(5)
    assert len(rows) == recipe.loop.batch_size
    names = {number: name for name, number in network.tokens._tokenizer.get_vocab().items()}
    (row, *_) = rows
    lead = ["[CLS]", "river", "[UNK]", "[SEP]"]
    body = ["oak", "stone", "##s", ".", "river", ",", "cat", "##s", "[UNK]", "tree"]
    body += ["dog", "##s", "fish", "bird"]
    assert [names[number] for number in row.ids] == [*lead, *body, "[SEP]"]
    assert row.types == [0] * 4 + [1] * (len(body) + 1)
    assert row.labels == [IGNORED] * 4 + [0] * 4 + [1] * 4 + [0] * 6 + [IGNORED]


@pytest.mark.parametrize("n_tokens", [3, 10, 40])
def test_a_window_holds_what_is_to_be_preserved(n_tokens):
    generator = np.random.default_rng(1)
    for place in range(n_tokens):
        labels = np.zeros(n_tokens, dtype=np.int64)
        labels[place:] = 1
        for _ in range(5):
            first = _window(labels, 10, generator)
            assert 0 <= first <= max(0, n_tokens - 10)
            assert first <= place < first + 10


def test_questions_held_out_and_measured_later_are_not_trained_on(recipe, data, settings, tmp_path):
    examples = read_examples(recipe, data, settings, Silent())
    trained_on = {
        examples.sets[0].pairs.queries[number].text for number in examples.sets[0].numbers
    }
    held = {one.question for one in examples.held_out}
    assert held
    assert not trained_on & held
    shutil.copytree(data / "toy", data / "later")
    rows = (data / "later" / "qrels" / "train.tsv").read_text().splitlines()
    (data / "later" / "qrels" / "dev.tsv").write_text("\n".join(rows[:20]) + "\n")
    avoiding = msgspec.structs.replace(recipe, avoid=("later/qrels/dev.tsv",))
    fewer = read_examples(avoiding, data, settings, Silent())
    asked = {fewer.sets[0].pairs.queries[number].text for number in fewer.sets[0].numbers}
    assert asked < trained_on
    numbers = {row.split("\t")[0].removeprefix("q") for row in rows[1:20]}
    assert not {text.split()[1] for text in asked} & numbers


def test_meetings_are_cut_at_turns(data):
    found = read_meetings(data, MeetingSource("meetings", "meetings.jsonl"))
    (question,) = found.questions
    turns = [turn for stretch in found.stretches for turn in stretch.turns]
    assert len(turns) == 20
    assert all("cat" in found.stretches[n].text for n in question.inside)
    assert not set(question.inside) & set(question.outside)
    with pytest.raises(InvalidInput, match="absent"):
        read_meetings(data, MeetingSource("meetings", "none.jsonl"))
    (data / "bad.jsonl").write_text("{}\n")
    with pytest.raises(MalformedInput, match=r"bad\.jsonl:1"):
        read_meetings(data, MeetingSource("meetings", "bad.jsonl"))


@pytest.mark.slow
def test_corrections_open_only_over_their_own_base(recipe, data, settings, tmp_path):
    loop = msgspec.structs.replace(recipe.loop, n_steps=2, measure_every=0)
    report = trained(msgspec.structs.replace(recipe, loop=loop), data, tmp_path / "out", settings)
    folder = Path(report.model)
    config = json.loads((folder / "config.json").read_text())
    assert (folder / "model.safetensors").stat().st_size < 40_000

    def load(**changes):
        (folder / "config.json").write_text(json.dumps(config | changes))
        return load_classifier(resolve(str(folder), settings.cache), settings.cache, "cpu")

    assert load().max_tokens == 48
    with pytest.raises(Conflict, match="corrects"):
        load(base_sha256="0" * 64)
    with pytest.raises(ModelError, match="scale"):
        load(scale="much")
    other = shutil.copytree(Path(config["base"]), tmp_path / "other")
    assert load(base=str(other)).reads_question


def test_a_recipe_is_held_to_its_shape(recipe_text, tmp_path):
    questions = '[[data]]\nname = "toy"\nfolder = "toy"\n'
    without = recipe_text.replace(questions, "")
    assert without != recipe_text
    (tmp_path / "meetings.toml").write_text(without)
    assert not read_recipe(str(tmp_path / "meetings.toml"), LlmLingua2Recipe).data
    begin, end = without.index("[[meetings]]"), without.index("[examples]")
    for wrong in (
        recipe_text.replace('name = "meetings"', 'name = "toy"'),
        recipe_text.replace("depth = 4", "deep = 4"),
        without[:begin] + without[end:],
    ):
        (tmp_path / "wrong.toml").write_text(wrong)
        with pytest.raises(UsageError):
            read_recipe(str(tmp_path / "wrong.toml"), LlmLingua2Recipe)
    assert read_recipe("llmlingua2-minilm", LlmLingua2Recipe).low_rank is not None
