"""The duplex that comes with the product: found by name, sensible, and one pass with its base."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from indexes.analyzer import Analyzer
from rag.config import load_settings
from rag.models.cache import is_ready
from rag.models.catalogue import get_entry
from rag.progress import Silent
from rag.retrievers.dupmae import DupmaeRetriever
from rag.retrievers.one_pass import encode_together, sharing
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import Retriever, parse_specs

pytestmark = pytest.mark.slow
CACHE = Path(os.environ.get("RAG_CACHE", platformdirs.user_cache_path("evident")))
TEXTS = [
    "Aspirin reduces the risk of a heart attack in adults.",
    "",
    "A black hole is a star that has collapsed under its own gravity. " * 40,
    "The Eiffel Tower was finished in 1889 and stands in Paris.",
    "Épée, naïveté and 東京 🙂",
]


OFF = {"float32": 1e-5, "int16": 3e-4}
"""What an entry of a vector may be off: in fixed point whatever is rounded otherwise, is twice."""


@pytest.fixture(scope="module", params=OFF)
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def opened(precision: str) -> list[Retriever]:
    if not is_ready(get_entry("all-minilm-l6-v2"), CACHE):
        pytest.skip("all-minilm-l6-v2 absent: rag models pull all-minilm-l6-v2")
    settings = load_settings({"cache": str(CACHE), "encode_precision": precision}, {})
    return [
        open_retriever(entry_of(spec, settings, Silent()), Analyzer(), settings)
        for spec in parse_specs("minilm,dupmae,gear")
    ]


def test_one_pass_over_the_bundled_encoder_gives_what_each_gives_alone(opened, precision):
    (group,) = sharing(opened)
    assert [one.entry.name for one in group] == ["minilm", "dupmae", "gear"]
    told = {one.entry.name: lambda _: None for one in group}
    found = encode_together(group, TEXTS, told)
    for retriever in opened:
        alone = retriever.encode_passages(TEXTS, lambda _: None)
        together = found[retriever.entry.name]
        np.testing.assert_allclose(together.dense, alone.dense, atol=OFF[precision])
        if alone.sparse is not None:
            np.testing.assert_array_equal(together.sparse.term_ids, alone.sparse.term_ids)
            np.testing.assert_allclose(together.sparse.weights, alone.sparse.weights, atol=1e-4)


def test_each_half_finds_what_a_question_is_about(opened):
    retriever = opened[1]
    assert isinstance(retriever, DupmaeRetriever)
    passages = retriever.encode_passages(TEXTS, lambda _: None)
    assert passages.sparse is not None
    questions = {"what lowers the danger of heart attacks?": 0, "a collapsed star": 2}
    for question, expected in questions.items():
        (query,) = retriever.encode_queries([question])
        assert query.vector.sparse is not None
        asked = dict(zip(query.vector.sparse.terms, query.vector.sparse.weights, strict=True))
        rows = passages.sparse
        lexical = [
            sum(
                asked.get(rows.vocabulary[term], 0.0) * float(weight)
                for term, weight in zip(rows.term_ids[span], rows.weights[span], strict=True)
            )
            for span in (slice(*rows.indptr[n : n + 2]) for n in range(len(TEXTS)))
        ]
        assert int(np.argmax(lexical)) == expected
        assert int(np.argmax(passages.dense @ query.vector.dense)) == expected
