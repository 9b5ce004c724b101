"""Duplex encoders over the toy BERT: ours, trained for no step, and the published kinds."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel

from rag.config import Settings
from rag.models.resolver import resolve
from rag.progress import Silent
from rag.retrievers.dupmae import DupmaeRetriever
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import parse_spec
from rag.train.dupmae.network import DuplexNetwork
from rag.train.dupmae.recipe import DupmaeRecipe, PretrainingConfig, StageConfig
from rag.train.pairs import PairSource
from rag.train.recipe import LoopConfig

TEXTS = ["cat dog fish", "river stone", "a tree is a tree", "bird", "cloud oak tiger cat"]

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {
        "idx": 2,
        "name": "2",
        "path": "2_Normalize",
        "type": "sentence_transformers.models.Normalize",
    },
]


def sentence_encoder(bert: Path, folder: Path, *, pooling: str = "mean", normalise: bool = True):
    """The toy BERT without its head, as sentence-transformers publishes encoders."""
    model = BertModel.from_pretrained(bert, add_pooling_layer=False)
    model.save_pretrained(folder)
    for file in bert.glob("token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    modules = MODULES if normalise else MODULES[:2]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    (folder / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{kind}": False for kind in ("cls_token", "mean_tokens", "max_tokens")}
    modes |= {"pooling_mode_" + {"mean": "mean_tokens", "cls": "cls_token"}[pooling]: True}
    config = {"word_embedding_dimension": 16, **modes}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    return folder


def toy_recipe(base: Path, **changes: object) -> DupmaeRecipe:
    loop = LoopConfig(n_steps=2, batch_size=2)
    settings = {
        "n_shared_layers": 1,
        "dimension": 6,
        "pooling": "mean",
        "literal": True,
        "max_tokens": 32,
        "doc_terms": 8,
        "query_terms": 8,
    } | changes
    return DupmaeRecipe(
        model=str(base),
        data=(PairSource("toy", "toy"),),
        pretraining=PretrainingConfig(loop),
        stages=(StageConfig("one", loop),),
        **settings,
    )


def our_folder(base: Path, folder: Path, cache: Path, **changes: object) -> Path:
    """A duplex over a base, as training would write it, its weights shaken."""
    network = DuplexNetwork(
        resolve(str(base), cache), toy_recipe(base, **changes), TEXTS, device="cpu", seed=1
    )
    network.save(folder)
    file = folder / "model.safetensors"
    torch.manual_seed(5)
    tensors = load_file(file)
    save_file(
        {
            name: (one.float() + 0.3 * torch.randn(one.shape)).half()
            for name, one in tensors.items()
        },
        file,
    )
    return folder


def open_duplex(folder: Path, cache: Path, settings: str = "", **options: int) -> DupmaeRetriever:
    chosen = Settings(cache=cache, **options)
    spec = parse_spec(f"d={folder}:kind=dupmae{settings}")
    found = open_retriever(entry_of(spec, chosen, Silent()), None, chosen)
    assert isinstance(found, DupmaeRetriever)
    return found
