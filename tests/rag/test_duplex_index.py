"""A duplex in a real index: built in one pass with its base, searched whole and by halves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "retrievers"))

from toy_checkpoints import WORDS, save_bert
from toy_duplex import our_folder, sentence_encoder

from indexes.analyzer import AnalyzerConfig
from indexes.errors import UsageError
from indexes.passages import PassageConfig
from rag.build import BuildRequest, build_index
from rag.config import Settings
from rag.progress import Silent
from rag.retrievers.retriever import parse_specs
from rag.search import RetrieverChoice, SearchRequest, SearchResponse
from rag.service import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    scratch = tmp_path_factory.mktemp("duplex")
    base = sentence_encoder(save_bert(scratch / "bert"), scratch / "base")
    settings = Settings(root=scratch / "root", cache=scratch / "cache")
    ours = our_folder(base, scratch / "ours", settings.cache)
    rows = [
        {"id": str(n), "text": f"{WORDS[n % 8]} {WORDS[(3 * n + 1) % 8]} {WORDS[n // 3]}"}
        for n in range(16)
    ]
    source = scratch / "docs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    specs = (
        f"base={base}:kind=dense,whole={ours},dense={ours}:part=dense,lexical={ours}:part=lexical"
    )
    request = BuildRequest(
        "i", [source], parse_specs(specs), AnalyzerConfig(), PassageConfig(), scratch / "rejects"
    )
    build_index(request, settings, Silent())
    return Service(settings)


def scores(service: Service, choice: RetrieverChoice) -> dict[str, float]:
    request = SearchRequest("i", "cat river", limit=16, retrievers=[choice])
    return {hit.id: hit.scores[choice.name].score for hit in service.search(request).hits}


@pytest.mark.parametrize(("part", "alone"), [("dense", "dense"), ("sparse", "lexical")])
def test_a_part_is_searched_as_a_retriever_that_keeps_only_that(service, part, alone):
    found = scores(service, RetrieverChoice("whole", part=part))
    expected = scores(service, RetrieverChoice(alone))
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(found) > 3


def test_the_parts_add_up_to_the_whole(service):
    whole, dense, lexical = (
        scores(service, RetrieverChoice("whole", part=part)) for part in ("both", "dense", "sparse")
    )
    assert len(whole) == 16
    for key, score in whole.items():
        assert score == pytest.approx(dense[key] + lexical.get(key, 0.0), abs=1e-5)


@pytest.mark.parametrize("weight", [0.25, 3.0])
def test_the_dense_half_counts_as_often_as_was_asked(service, weight):
    found = scores(service, RetrieverChoice("whole", dense_weight=weight))
    dense, lexical = (
        scores(service, RetrieverChoice("whole", part=part)) for part in ("dense", "sparse")
    )
    expected = {key: weight * dense[key] + lexical.get(key, 0.0) for key in dense}
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("choice", [{"name": "base"}, {"name": "whole", "part": "dense"}])
def test_what_is_not_added_cannot_be_weighed(service, choice):
    with pytest.raises(UsageError, match="dense_weight needs two parts"):
        scores(service, RetrieverChoice(**choice, dense_weight=2.0))


def explained(service: Service, choice: RetrieverChoice) -> SearchResponse:
    return service.search(
        SearchRequest("i", "cat river", limit=16, retrievers=[choice], explain=True)
    )


def test_an_explained_search_accounts_for_the_lexical_half(service):
    """Shares of terms add up to what the dense half leaves of the score."""
    response = explained(service, RetrieverChoice("whole"))
    dense = scores(service, RetrieverChoice("whole", part="dense"))
    for hit in response.hits:
        assert {term.retriever for term in hit.matched_terms} <= {"whole"}
        lexical = sum(term.product for term in hit.matched_terms)
        assert hit.scores["whole"].score == pytest.approx(dense[hit.id] + lexical, abs=1e-5)
        for term in hit.expansion:
            assert term.source == hit.text[term.start : term.end]
            assert term.term != term.source
    assert any(hit.matched_terms for hit in response.hits)
    assert any(hit.expansion for hit in response.hits)


def test_what_was_not_searched_by_is_not_explained(service):
    response = explained(service, RetrieverChoice("whole", part="dense"))
    assert response.expansion == []
    assert [hit.matched_terms + hit.expansion for hit in response.hits] == [[]] * 16


def test_a_part_that_is_not_there_is_an_error(service):
    with pytest.raises(UsageError, match="base has no sparse part"):
        scores(service, RetrieverChoice("base", part="sparse"))
