"""A masked LM by our own layers against transformers', and when it is not ours to compute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_checkpoints import VOCABULARY, save_bert
from transformers import BertForMaskedLM

from rag.retrievers.masked_bert import MaskedBert, open_masked_bert
from rag.retrievers.vocabulary_model import VocabularyModel

ROWS = [[2, 5, 6, 7, 3], [2, 8, 3], [2, 9, 10, 11, 12, 16, 17, 3], [2, 3]]


def changed(folder: Path, **values: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


def renamed(folder: Path, old: str, new: str) -> Path:
    path = folder / "model.safetensors"
    tensors = {name.replace(old, new): value for name, value in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    return folder


def weights(model: VocabularyModel, rows: list[list[int]]) -> torch.Tensor:
    return model.weights(rows, "max", "log1p_relu")


def both(folder: Path) -> tuple[VocabularyModel, VocabularyModel]:
    ours = VocabularyModel(folder, head="masked", device="cpu")
    theirs = VocabularyModel(folder, head="masked", device="cpu", is_trained=True)
    assert isinstance(ours.module, MaskedBert)
    assert isinstance(theirs.module, BertForMaskedLM)
    return ours, theirs


@pytest.mark.parametrize("shape", [{}, {"hidden_size": 32, "num_attention_heads": 4}])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[3:]])
def test_it_says_what_transformers_says(tmp_path: Path, shape, rows) -> None:
    ours, theirs = both(save_bert(tmp_path / "bert", **shape))
    assert (ours.n_terms, ours.width, ours.longest) == (
        theirs.n_terms, theirs.width, theirs.longest,
    )  # fmt: skip
    torch.testing.assert_close(weights(ours, rows), weights(theirs, rows), rtol=1e-4, atol=1e-5)
    mean = [m.weights(rows, "sum", "log1p_relu") for m in (ours, theirs)]
    torch.testing.assert_close(*mean, rtol=1e-4, atol=1e-5)
    terms = list(range(5, len(VOCABULARY)))
    assert ours.best_positions(rows[0], terms) == theirs.best_positions(rows[0], terms)


@pytest.mark.parametrize(
    ("new", "old"), [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")]
)
def test_names_of_old_checkpoints(tmp_path: Path, new: str, old: str) -> None:
    folder = save_bert(tmp_path / "bert")
    before = weights(VocabularyModel(folder, head="masked", device="cpu"), ROWS)
    ours, theirs = both(renamed(folder, old, new))
    assert torch.equal(weights(ours, ROWS), before)
    torch.testing.assert_close(weights(theirs, ROWS), before, rtol=1e-4, atol=1e-5)


def test_a_projection_of_its_own(tmp_path: Path) -> None:
    folder = changed(save_bert(tmp_path / "bert"), tie_word_embeddings=False)
    assert open_masked_bert(folder) is None
    path = folder / "model.safetensors"
    tensors = load_file(path)
    table = tensors["bert.embeddings.word_embeddings.weight"]
    tensors["cls.predictions.decoder.weight"] = table.flip(0).contiguous()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    save_file(tensors, path, {"format": "pt"})
    ours, theirs = both(folder)
    assert torch.equal(ours.head.weight, table.flip(0))
    torch.testing.assert_close(weights(ours, ROWS), weights(theirs, ROWS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "roberta"},
        {"is_decoder": True},
        {"hidden_act": "relu"},
        {"architectures": ["BertForPreTraining"]},
        {"vocab_size": 99},
    ],
)
def test_what_is_not_plain_is_left_to_transformers(tmp_path: Path, values) -> None:
    assert open_masked_bert(changed(save_bert(tmp_path / "bert"), **values)) is None


def test_a_lost_weight_is_left_to_transformers(tmp_path: Path) -> None:
    folder = renamed(save_bert(tmp_path / "bert"), "transform.dense.bias", "transform.dense.lost")
    assert open_masked_bert(folder) is None


@pytest.mark.slow
def test_transformers_is_not_waited_for(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert")
    program = f"""
import sys
from pathlib import Path
from rag.retrievers.vocabulary_model import VocabularyModel
model = VocabularyModel(Path({str(folder)!r}), head="masked", device="cpu")
model.weights([[2, 5, 3]], "max", "log1p_relu")
print("transformers" in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "False"
