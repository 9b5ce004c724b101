"""Recipe files: what is wrong with one is said in a sentence."""

from __future__ import annotations

import pytest

from indexes.errors import UsageError
from rag.train.recipe import read_recipe, recipe_names
from rag.train.splade_recipe import SpladeRecipe

HEAD = 'model = "m"\n[[data]]\nname = "a"\nfolder = "a"\n[loop]\nn_steps = 1\n'


@pytest.mark.parametrize("name", [one for one in recipe_names() if one.startswith("splade")])
def test_every_splade_recipe_that_comes_with_the_product_is_valid(name):
    recipe = read_recipe(name, SpladeRecipe)
    assert recipe.backbone == ("decoder" if "echo" in name else "masked")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = ", "not valid TOML"),
        (HEAD + "typo = 1\n", "typo"),
        (HEAD + 'learning_rate = "fast"\n', "learning_rate"),
        (HEAD + "batch_size = 3\naccumulate = 2\n", "multiple of accumulate"),
        (HEAD.replace("n_steps = 1", "n_steps = 0"), "n_steps"),
        (HEAD + '[[dev]]\nname = "a"\nfolder = "b"\n', "one name"),
        (HEAD + "[low_rank]\nrank = 4\n", "backbone decoder"),
        ('model = "m"\ndata = []\n[loop]\nn_steps = 1\n', "at least one set"),
        (HEAD + "[loss]\ntemperature = 0\n", "temperature"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, words):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_recipe(str(path), SpladeRecipe)


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(UsageError, match="splade-tiny"):
        read_recipe("nothing", SpladeRecipe)
