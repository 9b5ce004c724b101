"""The bundled SPLADE gives sentence-transformers' vectors, and a real causal model reads twice."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from sentence_transformers import SparseEncoder

from indexes.analyzer import Analyzer
from rag.config import Settings, load_settings
from rag.models.cache import is_ready, ready_folder
from rag.models.catalogue import get_entry
from rag.progress import Silent
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import parse_spec
from rag.retrievers.splade import SpladeRetriever

pytestmark = pytest.mark.slow
CACHE = Path(os.environ.get("RAG_CACHE", platformdirs.user_cache_path("evident")))
TEXTS = [
    "Aspirin reduces the risk of a heart attack.",
    "",
    "A black hole is a star that has collapsed. " * 40,
    "Épée, naïveté and 東京 🙂",
]


def opened(spec: str, model: str) -> SpladeRetriever:
    if not is_ready(get_entry(model), CACHE):
        pytest.skip(f"{model} absent: rag models pull {model}")
    settings: Settings = load_settings({"cache": str(CACHE)}, {})
    found = open_retriever(entry_of(parse_spec(spec), settings, Silent()), Analyzer(), settings)
    assert isinstance(found, SpladeRetriever)
    return found


def test_same_vectors_as_sentence_transformers():
    rows = opened("splade", "splade-tiny").encode_passages(TEXTS, lambda _: None).sparse
    assert rows is not None
    folder = ready_folder(get_entry("splade-tiny"), CACHE)
    encoder = SparseEncoder(str(folder), device="cpu", local_files_only=True)
    encoder.max_seq_length = 256
    for number, vector in enumerate(encoder.encode(TEXTS, convert_to_sparse_tensor=False)):
        span = slice(int(rows.indptr[number]), int(rows.indptr[number + 1]))
        mine = np.zeros(len(rows.vocabulary), np.float32)
        mine[rows.term_ids[span]] = rows.weights[span]
        np.testing.assert_allclose(mine, vector.numpy(), atol=1e-4)


def test_a_real_causal_model_reads_twice():
    echo = opened("echo=smollm2-135m-instruct:kind=splade:doc_terms=64", "smollm2-135m-instruct")
    rows = echo.encode_passages(TEXTS[:2], lambda _: None).sparse
    assert rows is not None
    assert np.diff(rows.indptr).tolist() == [64, 0]
    sources = echo.passage_sources(TEXTS[0])
    assert len(sources) == 64
    assert all(TEXTS[0][s.start : s.end].strip() for s in sources)
