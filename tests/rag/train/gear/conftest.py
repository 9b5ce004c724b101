"""A toy set of questions answered by one sentence of their document, and an encoder."""

from __future__ import annotations

import gzip
import json
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "gear"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from toy_gear import save_base
from toy_sets import write_jsonl, write_qrels

THINGS = ["tree", "river", "stone", "cloud", "house", "road"]
COLOURS = ["red", "blue", "green", "grey", "white", "black"]
N_DOCUMENTS = 48


def write_questions(folder: Path) -> None:
    """`what of the tree`: the sentence about the tree has the answer, a colour."""
    chosen = random.Random(7)
    texts, questions = [], []
    for number in range(N_DOCUMENTS):
        things = chosen.sample(THINGS, 4)
        colours = chosen.sample(COLOURS, 4)
        pairs = zip(things, colours, strict=True)
        text = " ".join(f"The {thing} here is {colour}." for thing, colour in pairs)
        texts.append({"_id": f"d{number}", "title": f"no {number}", "text": text})
        place = chosen.randrange(4)
        questions.append(
            {
                "_id": f"q{number}",
                "text": f"what of the {things[place]} in {number}",
                "metadata": {"answers": [colours[place]]},
            }
        )
    folder.mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", texts)
    write_jsonl(folder / "queries.jsonl", questions)
    rows = [(f"q{number}", f"d{number}", 1) for number in range(N_DOCUMENTS)]
    write_qrels(folder / "qrels" / "train.tsv", rows)


def write_passages(path: Path) -> None:
    chosen = random.Random(9)
    lines = []
    for number in range(30):
        names = chosen.sample(["Anna", "Berta", "Carl", "Dora", "Emil", "Fritz"], 3)
        sentences = [
            f"In {1900 + number} the mayor {name} opened the {' '.join(chosen.sample(THINGS, 3))}."
            for name in names
        ]
        lines.append({"source": "toy", "text": " ".join(sentences)})
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_questions(tmp_path / "data" / "toy")
    write_passages(tmp_path / "data" / "passages.jsonl.gz")
    return tmp_path / "data"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def recipe_text(base: Path) -> str:
    return f"""
base = "{base}"
[[data]]
name = "toy"
folder = "toy"
[synthesis]
file = "passages.jsonl.gz"
sources = ["toy"]
weight = 0.2
[model]
n_shared = 1
n_decoder_layers = 1
decoder_inner = 16
locate_layers = [2]
max_tokens = 64
[loss]
max_tokens = 60
queue = 32
n_negatives = 1
[held_out]
share = 0.2
depth = 2
[loop]
n_steps = 6
batch_size = 8
seed = 3
learning_rate = 5e-3
measure_every = 3
save_every = 2
[loop.pace]
"encoder." = 0.5
"""
