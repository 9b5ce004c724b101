"""A toy set of questions whose answers are one kind of word, a meeting, and an encoder."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, processors

sys.path.insert(0, str(Path(__file__).parents[2] / "retrievers"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from toy_checkpoints import save_bert
from toy_sets import write_jsonl, write_qrels

ANIMALS = ["cat", "dog", "fish", "bird"]
THINGS = ["tree", "river", "stone", "cloud"]
N_DOCUMENTS = 48


def write_questions(folder: Path) -> None:
    """The answer to every question is the text's one animal, with the thing that is asked for."""
    chosen = random.Random(7)
    texts, questions = [], []
    for number in range(N_DOCUMENTS):
        animal, thing = chosen.choice(ANIMALS), chosen.choice(THINGS)
        sentences = [f"{thing} {thing} {animal} ."]
        sentences += [f"{' '.join(chosen.choices(THINGS, k=3))} oak ." for _ in range(3)]
        chosen.shuffle(sentences)
        texts.append({"_id": f"d{number}", "title": "", "text": " ".join(sentences)})
        row = {"_id": f"q{number}", "text": f"{thing} {number}", "metadata": {"answers": [animal]}}
        questions.append(row)
    folder.mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", texts)
    write_jsonl(folder / "queries.jsonl", questions)
    rows = [(f"q{number}", f"d{number}", 1) for number in range(N_DOCUMENTS)]
    write_qrels(folder / "qrels" / "train.tsv", rows)


def write_meeting(path: Path) -> None:
    turns = [
        {"speaker": f"S{number % 3}", "content": "cat dog " * 20 if number < 8 else "oak " * 40}
        for number in range(20)
    ]
    span = [["0", "9"], ["12", "12"]]
    query = {"query": "cat", "answer": "The cat met a dog.", "relevant_text_span": span}
    path.write_text(json.dumps({"meeting_transcripts": turns, "specific_query_list": [query]}))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_questions(tmp_path / "data" / "toy")
    write_meeting(tmp_path / "data" / "meetings.jsonl")
    return tmp_path / "data"


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_bert(tmp_path_factory.mktemp("encoder"), seed=3)
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    made.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def recipe_text(encoder: Path) -> str:
    return f"""
model = "{encoder}"
[[data]]
name = "toy"
folder = "toy"
[[meetings]]
name = "meetings"
file = "meetings.jsonl"
weight = 0.1
[examples]
max_tokens = 48
depth = 4
question_free = 0.2
[held_out]
share = 0.2
[low_rank]
rank = 4
alpha = 8.0
dropout = 0.0
[loop]
n_steps = 60
batch_size = 8
seed = 3
learning_rate = 1e-2
measure_every = 20
"""
