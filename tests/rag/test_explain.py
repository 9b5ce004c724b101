"""A search that explains itself: shares add up to scores, expansions point at words."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent / "retrievers"))

from toy_checkpoints import paper, save_bert

from indexes.analyzer import AnalyzerConfig
from indexes.passages import PassageConfig
from rag.build import BuildRequest, build_index
from rag.config import load_settings
from rag.explain import MAX_EXPANSION, explained, field_span
from rag.hits import hits_of
from rag.progress import Silent
from rag.ranking import rank
from rag.retrievers.retriever import parse_specs, passage_input
from rag.search import Fusion, RetrieverChoice, SearchRequest, SearchResponse
from rag.service import Service
from rag.stopwatch import Stopwatch

QUERY = "cat river"
DOCUMENTS = [
    {"id": "a", "title": "A Cat", "text": "The dogs, and the river."},
    {"id": "b", "title": "", "text": "  Birds near a tree."},
    {"id": "c", "title": "Stone", "text": "fish fish cloud"},
]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory):
    scratch = tmp_path_factory.mktemp("explain")
    bert = save_bert(scratch / "bert")
    source = scratch / "docs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in DOCUMENTS))
    settings = load_settings({"root": str(scratch / "root"), "cache": str(scratch / "cache")}, {})
    build_index(
        BuildRequest(
            "i",
            [source],
            parse_specs(f"bm25,mine={bert}"),
            AnalyzerConfig(),
            PassageConfig(),
            scratch / "rejects",
        ),
        settings,
        Silent(),
    )
    service = Service(settings)
    snapshot = service.snapshot("i")
    retrievers = service.retrievers(snapshot, ["bm25", "mine"])
    choices = [RetrieverChoice("bm25"), RetrieverChoice("mine")]
    request = SearchRequest(index="i", query=QUERY, explain=True)
    ranked = next(rank(snapshot, retrievers, [QUERY], choices, Fusion(), 10, None, Stopwatch()))
    response = SearchResponse("r", "i", 1, hits_of(snapshot, request, ranked), {})
    yield bert, ranked, explained(response, QUERY, ranked, retrievers)
    service.close()


def test_matched_terms_are_the_score(searched):
    _, ranked, response = searched
    sparse = ranked.vectors["mine"].sparse
    asked = dict(zip(sparse.terms, sparse.weights, strict=True))
    for hit in response.hits:
        shares = [term for term in hit.matched_terms if term.retriever == "mine"]
        assert sum(term.product for term in shares) == pytest.approx(hit.scores["mine"].score)
        for term in shares:
            assert term.query_weight == pytest.approx(asked[term.term])
            assert term.product == pytest.approx(term.query_weight * term.doc_weight)


def test_expansion_is_what_the_text_does_not_say(searched):
    bert, _, response = searched
    whole = paper(bert, QUERY)
    said = {"cat", "river"}
    assert {term.term for term in response.expansion} == whole.keys() - said
    assert whole.keys() - said
    for term in response.expansion:
        assert term.weight == pytest.approx(whole[term.term], abs=1e-5)
        assert (term.field, term.source) == ("query", QUERY[term.start : term.end])


@pytest.mark.slow
def test_a_hits_expansion_points_into_its_fields(searched):
    bert, _, response = searched
    hits = {hit.id: hit for hit in response.hits}
    assert {"a", "b", "c"} == hits.keys()
    pointed = set()
    for document in DOCUMENTS:
        hit = hits[document["id"]]
        whole = paper(bert, passage_input(hit.title, hit.text))
        assert hit.expansion
        for term in hit.expansion:
            assert term.weight == pytest.approx(whole[term.term], abs=1e-5)
            text = {"title": hit.title, "text": hit.text}[term.field]
            assert text[term.start : term.end] == term.source
            assert term.source == term.source.strip()
            pointed.add((term.field, term.source))
        kinds = [term.matched for term in hit.expansion]
        assert kinds == sorted(kinds, reverse=True)
        assert len(hit.expansion) <= MAX_EXPANSION
        matched = {term.term for term in hit.matched_terms}
        assert {term.term for term in hit.expansion if term.matched} <= matched
    assert {"title", "text"} <= {field for field, source in pointed if source}


words = st.text("ab \n", max_size=6)


@given(words, words, st.data())
def test_a_place_in_what_was_read_is_a_place_in_a_field(title, text, data):
    read = passage_input(title, text)
    at = [n for n, character in enumerate(read) if not character.isspace()]
    if not at:
        return
    start = data.draw(st.sampled_from(at))
    field, left, right = field_span(title, text, start, start + 1)
    assert (title if field == "title" else text)[left:right] == read[start]
    joined = f"{title} {text}"
    place = left if field == "title" else left + len(title) + 1
    assert joined[place:].startswith(read[start:].rstrip())
