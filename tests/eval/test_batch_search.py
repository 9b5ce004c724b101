from __future__ import annotations

import pytest
from msgspec.structs import replace

import eval.batch_search
from eval.batch_search import SearchPlan, check_judged, search_all
from indexes.errors import InvalidInput, UsageError
from rag.progress import Silent
from rag.search import RetrieverChoice, SearchRequest

QUERIES = {"q1": "hunts mice", "q2": "river fish den", "owl": "owls hunt mice at night", "q4": "ü"}


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_batches_find_what_single_searches_find(service, plan, monkeypatch, batch):
    monkeypatch.setattr(eval.batch_search, "BATCH_QUERIES", batch)
    run = search_all(service, "animals", QUERIES, plan, Silent())
    assert list(run) == list(QUERIES)
    for query_id, text in QUERIES.items():
        hits = service.search(SearchRequest(index="animals", query=text, limit=3)).hits
        assert list(run[query_id]) == [hit.id for hit in hits]
        assert list(run[query_id].values()) == pytest.approx([hit.score for hit in hits], rel=1e-6)
    assert run["q4"] == {}


def test_the_querys_own_document_is_dropped_before_the_cut(service, plan):
    kept = search_all(service, "animals", QUERIES, replace(plan, limit=1), Silent())
    dropped = search_all(
        service, "animals", QUERIES, replace(plan, limit=1, drop_self=True), Silent()
    )
    assert list(kept["owl"]) == ["owl"]
    assert list(dropped["owl"]) == ["fox"]
    assert dropped["q1"] == kept["q1"]


def test_plans_that_cannot_be(service):
    for limit, drop_self in ((0, False), (1001, False), (1000, True)):
        with pytest.raises(UsageError, match="the limit"):
            search_all(
                service,
                "animals",
                QUERIES,
                SearchPlan([], limit=limit, drop_self=drop_self),
                Silent(),
            )
    with pytest.raises(UsageError, match="no retriever 'minilm'"):
        search_all(service, "animals", QUERIES, SearchPlan([RetrieverChoice("minilm")]), Silent())


def test_an_index_of_another_corpus_is_told(service):
    snapshot = service.snapshot("animals")
    assert check_judged(snapshot, {"owl", "whale"}) == 1
    assert check_judged(snapshot, set()) == 0
    with pytest.raises(InvalidInput, match="holds none of the 1 relevant documents"):
        check_judged(snapshot, {"whale"})
