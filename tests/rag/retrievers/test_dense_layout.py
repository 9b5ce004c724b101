"""Settings of sentence-transformers folders, read as that library reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from toy_duplex import sentence_encoder

from rag.config import Settings
from rag.progress import Silent
from rag.retrievers.dense_layout import mean_layout
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import Retriever, parse_specs

TEXTS = ["cat dog fish " * 20, "river stone", "a tree is a tree", "bird"]


def opened(folder: Path, cache: Path) -> Retriever:
    chosen = Settings(cache=cache, encode_precision="float32")
    (spec,) = parse_specs(f"dense={folder}:kind=dense")
    return open_retriever(entry_of(spec, chosen, Silent()), None, chosen)


@pytest.fixture
def base(bert: Path, tmp_path: Path) -> Path:
    return sentence_encoder(bert, tmp_path / "base")


@pytest.mark.parametrize(
    "prompts", [{}, {"query": "cat ", "document": "dog "}, {"passage": "oak "}]
)
@pytest.mark.parametrize("limit", [12, 400])
def test_it_is_what_the_library_says(base, tmp_path, prompts, limit):
    (base / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": limit}))
    (base / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    theirs = SentenceTransformer(str(base), device="cpu", local_files_only=True)
    layout = mean_layout(base)
    assert layout is not None
    longest = json.loads((base / "config.json").read_bytes())["max_position_embeddings"]
    assert layout.max_tokens == min(theirs.max_seq_length, longest)
    assert layout.dimension == theirs.get_embedding_dimension()
    ours = opened(base, tmp_path / "cache")
    theirs.max_seq_length = layout.max_tokens
    found = ours.encode_passages(TEXTS, lambda _: None).dense
    before = prompts.get("document", prompts.get("passage", ""))
    expected = theirs.encode([before + text for text in TEXTS], normalize_embeddings=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (query,) = ours.encode_queries(["river"])
    (expected,) = theirs.encode([prompts.get("query", "") + "river"], normalize_embeddings=True)
    np.testing.assert_allclose(query.vector.dense, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sentence_bert_config.json", "{}"),
        ("modules.json", "[]"),
        ("modules.json", "no JSON"),
        ("config.json", '{"model_type": "roberta"}'),
    ],
)
def test_all_else_is_left_to_the_library(base, name, content):
    (base / name).write_text(content)
    assert mean_layout(base) is None


def test_other_poolings_are_left_to_the_library(bert, tmp_path):
    assert mean_layout(sentence_encoder(bert, tmp_path / "cls", pooling="cls")) is None
    assert mean_layout(sentence_encoder(bert, tmp_path / "raw", normalise=False)) is None


@pytest.mark.slow
@pytest.mark.parametrize(("pooling", "imported"), [("mean", False), ("cls", True)])
def test_a_plain_encoder_does_not_wait_for_the_library(bert, tmp_path, pooling, imported):
    base = sentence_encoder(bert, tmp_path / "base", pooling=pooling)
    program = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[3]), str(Path(__file__).parent)]!r}
from pathlib import Path
from rag.config import Settings
from rag.progress import Silent
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import parse_specs
chosen = Settings(cache=Path({str(tmp_path)!r}))
(spec,) = parse_specs("dense={base}:kind=dense")
open_retriever(entry_of(spec, chosen, Silent()), None, chosen).encode_queries(["cat"])
print("sentence_transformers" in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == str(imported)
