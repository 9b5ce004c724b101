"""The stages one at a time, over REST: chained they are `/v1/answer`; the forged is refused."""

import json
import sys
from pathlib import Path

import msgspec
import pytest
from by_heart import ByHeart
from litestar.testing import TestClient

from api.app import create_app
from indexes.analyzer import AnalyzerConfig
from indexes.errors import EvidentError
from indexes.passages import PassageConfig
from indexes.sentences import sentence_spans
from rag.build import BuildRequest, build_index
from rag.config import Settings
from rag.models.resolver import resolve
from rag.progress import Silent
from rag.retrievers.retriever import parse_specs

sys.path.insert(0, str(Path(__file__).parents[1] / "rag" / "gear"))

from toy_gear import save_base, toy_locator

SENTENCE = "Penicillin was discovered by Alexander Fleming in 1928."
QUESTION = "Who discovered penicillin?"
SAME = ("answer", "citations", "evidence", "status", "usage", "index_version", "truncated")


@pytest.fixture
def client(tiny_index, limits, with_model):
    service = with_model(tiny_index, ByHeart(SENTENCE))
    with TestClient(create_app(service, limits), raise_server_exceptions=False) as client:
        yield client
    service.close()


def post(client, stage, body):
    response = client.post(f"/v1/{stage}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def chain(client, asked):
    """What `/v1/answer` is asked, stage by stage; its reply made of theirs."""
    limits = {"limit": asked.get("limit", 3)}
    encoded = post(client, "encode", {k: asked[k] for k in asked if k in ENCODE_OPTIONS})
    chosen = {"filter": asked["filter"]} if "filter" in asked else {}
    found = post(client, "retrieve", encoded | limits | chosen)
    fusion = {"fusion": asked["fusion"]} if "fusion" in asked else {}
    fused = post(client, "fuse", found | limits | fusion)
    least = {"min_evidence": asked["min_evidence"]} if "min_evidence" in asked else {}
    located = post(client, "locate", fused | least)
    body = {"prompt": asked["query"], "evidence": located["evidence"]}
    if "compress" in asked:
        options = asked["compress"] | {"hits": located["evidence"], "query": asked["query"]}
        body["shown"] = post(client, "compress", options)
    written = post(client, "generate", body)
    return {
        "answer": written["text"],
        "citations": written["citations"],
        "evidence": located["evidence"],
        "status": "ok" if located["evidence"] else "no_evidence",
        "usage": written["usage"],
        "index_version": fused["index_version"],
        "truncated": written["truncated"] or located["truncated"],
        "hits": fused["hits"],
    }


ENCODE_OPTIONS = {"index", "query", "retrievers"}
ASKED = {"index": "tiny", "query": QUESTION, "min_evidence": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        ASKED,
        ASKED | {"limit": 1},
        ASKED | {"compress": {"rate": 0.4}},
        ASKED | {"filter": {"must": [{"field": "year", "range": {"lt": 1900}}]}},
        ASKED | {"retrievers": [{"name": "bm25", "limit": 5, "weight": 2}]},
        ASKED | {"fusion": {"method": "rrf", "k": 3}},
        {"index": "tiny", "query": "zebra crossings"},
        {"index": "tiny", "query": "البنسلين", "min_evidence": 0.2},
    ],
)
def test_the_stages_chained_are_the_answer(client, asked):
    chained = chain(client, asked)
    answered = post(client, "answer", asked)
    for part in SAME:
        assert msgspec.json.encode(chained[part]) == msgspec.json.encode(answered[part]), part
    passed = ENCODE_OPTIONS | {"filter", "fusion"}
    search = {key: value for key, value in asked.items() if key in passed}
    searched = post(client, "search", search | {"limit": asked.get("limit", 3)})
    assert chained["hits"] == searched["hits"]


@pytest.mark.slow
def test_the_stages_of_a_hybrid_index_chained_are_the_answer(tmp_path, limits, with_model):
    settings = Settings(root=tmp_path / "indexes")
    try:
        resolve("all-minilm-l6-v2", settings.cache)
    except EvidentError:
        pytest.skip("the model is not in the cache: rag models pull --all-defaults")
    inputs = tmp_path / "documents.jsonl"
    texts = [SENTENCE, "Marie Curie discovered radium in 1898.", "A quagga was a zebra."]
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    inputs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = BuildRequest(
        name="tiny",
        inputs=[inputs],
        retrievers=parse_specs("bm25,minilm:max_tokens=48"),
        analyzer=AnalyzerConfig(),
        passages=PassageConfig(),
        rejects=tmp_path / "rejects.jsonl",
    )
    build_index(request, settings, Silent())
    service = with_model(settings, ByHeart(SENTENCE))
    with TestClient(create_app(service, limits), raise_server_exceptions=False) as client:
        test_the_stages_chained_are_the_answer(client, ASKED)
        test_the_stages_chained_are_the_answer(client, {"index": "tiny", "query": "zebra"})
        encoded = post(client, "encode", {"index": "tiny", "query": QUESTION})
        assert len(encoded["codes"][1]["dense"]) == 384
        short = encoded["codes"][1] | {"dense": [1.0]}
        refused = client.post(
            "/v1/retrieve", json=encoded | {"codes": [encoded["codes"][0], short]}
        )
        assert refused.status_code == 422
    service.close()


@pytest.fixture
def pointing(tmp_path, monkeypatch):
    """The locator is a tiny one with random weights."""
    base = save_base(tmp_path / "base")
    monkeypatch.setattr("rag.gear.opening.locator_of", lambda _, **__: toy_locator(base))


@pytest.fixture
def fused(client):
    encoded = post(client, "encode", {"index": "tiny", "query": QUESTION})
    return post(client, "fuse", post(client, "retrieve", encoded))


def test_another_version_of_the_index_is_a_conflict(client, fused, is_problem):
    put = client.put("/v1/indexes/tiny/documents/new", json={"text": "Something new."})
    assert put.status_code == 200
    is_problem(client.post("/v1/locate", json=fused), 409, "conflict")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"rows": [0]}, "/rows"),
        ({"rows": [10**6, 1]}, "/rows"),
        ({"rows": [-1, 1]}, "/rows/0"),
        ({"codes": []}, "/codes"),
        ({"codes": [{"name": "bm25"}]}, "/codes/0"),
        ({"codes": [{"name": "bm25", "dense": [1.0]}]}, "/codes/0"),
        (
            {"codes": [{"name": "bm25", "sparse": {"tokens": ["a", "a"], "values": [1, 1]}}]},
            "/codes/0/sparse",
        ),
        (
            {"codes": [{"name": "bm25", "sparse": {"tokens": ["a"], "values": []}}]},
            "/codes/0/sparse",
        ),
        (
            {"codes": [{"name": "bm25", "sparse": {"tokens": ["a"], "values": [1e9]}}]},
            "/codes/0/sparse/values/0",
        ),
    ],
)
def test_what_no_stage_returned_is_refused(client, fused, is_problem, change, pointer):
    problem = is_problem(client.post("/v1/locate", json=fused | change), 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == pointer


def test_rows_in_another_order_and_rows_of_the_deleted_are_refused(client, fused, is_problem):
    swapped = fused | {"rows": fused["rows"][::-1]}
    is_problem(client.post("/v1/locate", json=swapped), 422, "invalid-input")
    url = "/v1/indexes/tiny/documents/x"
    assert client.put(url, json={"text": "the aardvark"}).is_success
    asked = {"index": "tiny", "query": "aardvark"}
    dead = post(client, "retrieve", post(client, "encode", asked))["rankings"][0]["found"][0]
    assert client.put(url, json={"text": "another aardvark"}).is_success
    found = post(client, "retrieve", post(client, "encode", asked))
    forged = found | {"rankings": [{"name": "bm25", "found": [dead]}]}
    is_problem(client.post("/v1/fuse", json=forged), 422, "invalid-input")


def test_what_is_shown_must_be_of_the_evidence(client, fused, is_problem):
    evidence = post(client, "locate", fused | {"min_evidence": 0})["evidence"]
    body = {"prompt": QUESTION, "evidence": evidence}
    for wrong in (
        body | {"shown": {"text": "", "hits": []}},
        body | {"context": "more"},
        body | {"raw": True},
        {"prompt": QUESTION, "shown": {"text": "", "hits": []}},
    ):
        is_problem(client.post("/v1/generate", json=wrong), 422, "invalid-input")


def test_sentences_pointed_at_are_the_highlights_of_the_evidence(client, fused, pointing):
    """The stage on request; what it returns goes on to compression and generation."""
    plain = post(client, "locate", fused | {"min_evidence": 0})
    assert plain["located"] == []
    options = {"min_evidence": 0, "point": {"sentences": 2, "write": True, "attention": True}}
    located = post(client, "locate", fused | options)
    assert [one["id"] for one in located["located"]] == [hit["id"] for hit in located["evidence"]]
    for hit, one in zip(located["evidence"], located["located"], strict=True):
        spans = sorted((span["start"], span["end"]) for span in one["spans"])
        assert spans == sentence_spans(hit["text"])[:2]
        assert [
            (mark["start"], mark["end"]) for mark in hit["highlights"] if mark["kind"] == "sentence"
        ] == spans
        assert one["answer"] in hit["text"]
        rows = one["attention"]["weights"]
        assert len(rows) == len(one["attention"]["question"])
        assert all(len(row) == len(one["attention"]["text"]) for row in rows)
    evidence = {"prompt": QUESTION, "evidence": located["evidence"]}
    written = post(client, "generate", evidence)
    assert written["citations"]


def test_too_many_sentences_are_refused(client, fused, is_problem):
    asked = fused | {"point": {"sentences": 21}}
    is_problem(client.post("/v1/locate", json=asked), 422, "invalid-input")


def test_a_search_highlights_sentences_on_request(client, pointing):
    asked = {"index": "tiny", "query": QUESTION}
    for hit in post(client, "search", asked | {"highlight": "sentences"})["hits"]:
        (mark,) = hit["highlights"]
        assert (mark["start"], mark["end"]) in sentence_spans(hit["text"])
        assert mark["kind"] == "sentence"
    answered = post(client, "answer", ASKED | {"locate": True, "compress": {"rate": 0.1}})
    assert all(hit["highlights"][0]["kind"] == "sentence" for hit in answered["evidence"])
