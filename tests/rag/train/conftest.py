"""A toy data set, checkpoints whose vocabulary it is written in, and recipes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "retrievers"))
sys.path.insert(0, str(Path(__file__).parent))

from toy_checkpoints import save_bert, save_llama
from toy_sets import write_toy


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("mlm"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("causal"))


@pytest.fixture
def toy_data(tmp_path: Path) -> Path:
    """A data folder with one set, `toy`."""
    write_toy(tmp_path / "data" / "toy")
    return tmp_path / "data"


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small recipe; keyword arguments are lines of its [loop]."""

    def write(model: Path, *, top: str = "", loss: str = "", **loop: object) -> Path:
        settings = {"n_steps": 6, "batch_size": 4, "seed": 3, "learning_rate": 1e-3} | loop
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
        path = tmp_path / "toy.toml"
        path.write_text(
            f'model = "{model}"\n{top}\n[[data]]\nname = "toy"\nfolder = "toy"\n'
            "[held_out]\nshare = 0.2\n"
            '[mining]\nretrievers = "bm25"\nweights = [1.0]\nn_top = 4\nn_random = 4\n'
            f"[loss]\nn_negatives = 3\nmax_tokens = 32\n{loss}\n[loop]\n{lines}\n",
            encoding="utf-8",
        )
        return path

    return write
