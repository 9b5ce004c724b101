"""The main job with the real models: real summaries in, cited answers out."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import platformdirs
import pytest

from indexes.analyzer import AnalyzerConfig
from indexes.errors import Cancelled, DeadlineExceeded
from indexes.passages import PassageConfig
from rag.answer import AnswerRequest, Decode
from rag.build import BuildRequest, build_index
from rag.config import load_settings
from rag.models.cache import is_ready, ready_folder
from rag.models.catalogue import DEMO_CORPUS, get_entry
from rag.progress import Silent
from rag.retrievers.retriever import parse_specs
from rag.search import RetrieverChoice, SearchRequest
from rag.service import Service

pytestmark = pytest.mark.slow
TITLES = (
    "2001: A Space Odyssey",
    "A Sunday Afternoon on the Island of La Grande Jatte",
    "Abstract expressionism",
    "Academic art",
    "Charles Darwin",
    "Canberra",
    "Black hole",
    "Dodo",
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory):
    import os

    cache = Path(os.environ.get("RAG_CACHE", platformdirs.user_cache_path("evident")))
    names = ("smollm2-135m-instruct", "all-minilm-l6-v2", DEMO_CORPUS)
    absent = [name for name in names if not is_ready(get_entry(name), cache)]
    if absent:
        pytest.skip(f"models absent: rag models pull {' '.join(absent)}")
    summaries = json.loads(
        (ready_folder(get_entry(DEMO_CORPUS), cache) / "summaries_en-us.json").read_text()
    )
    scratch = tmp_path_factory.mktemp("end_to_end")
    chosen = [title for title in summaries if title in TITLES] + list(summaries)[200:260]
    with (scratch / "docs.jsonl").open("w") as file:
        for title in dict.fromkeys(chosen):
            row = {"id": title, "title": title, "text": summaries[title]["extract"]}
            file.write(json.dumps(row) + "\n")
    settings = load_settings({"root": str(scratch / "root"), "cache": str(cache)}, {})
    request = BuildRequest(
        "demo",
        [scratch / "docs.jsonl"],
        parse_specs("bm25,minilm:max_tokens=48"),
        AnalyzerConfig(),
        PassageConfig(),
        scratch / "rejects.jsonl",
    )
    assert build_index(request, settings, Silent()).n_rejected == 0
    service = Service(settings)
    yield service
    service.close()


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who directed 2001: A Space Odyssey?", "Kubrick"),
        ("Who painted A Sunday Afternoon on the Island of La Grande Jatte?", "Seurat"),
    ],
)
def test_answers_are_right_and_point_at_their_evidence(service, question, expected):
    response = service.answer(AnswerRequest(index="demo", query=question))
    assert response.status == "ok"
    assert expected in response.answer
    assert response.citations
    hits = {hit.id: hit for hit in response.evidence}
    for citation in response.citations:
        source = hits[citation.hit_id].text[citation.source_start : citation.source_end]
        assert response.answer[citation.start : citation.end].strip()
        assert source.strip()
    cited = [
        hits[c.hit_id].text[c.source_start : c.source_end] + hits[c.hit_id].title
        for c in response.citations
    ]
    assert any(expected in text for text in cited)
    assert response.usage.prompt_tokens > response.usage.completion_tokens > 0


def test_the_same_request_gives_the_same_bytes(service):
    request = AnswerRequest(
        index="demo", query="What is a black hole?", decode=Decode(max_tokens=24, temperature=0.7)
    )
    first, second = service.answer(request), service.answer(request)
    assert (first.answer, first.citations) == (second.answer, second.citations)


def test_without_evidence_the_model_is_not_called(service):
    response = service.answer(AnswerRequest(index="demo", query="qwzx vfjkp blorgt snurfle"))
    assert response.status == "no_evidence"
    assert response.answer == ""
    assert response.decode.finish_reason == "not_called"
    assert "generate" not in response.timings_ms


def test_both_retrievers_speak_and_meaning_is_found(service):
    response = service.search(SearchRequest(index="demo", query="extinct flightless bird"))
    assert response.hits[0].id == "Dodo"
    assert set(response.hits[0].scores) == {"bm25", "minilm"}
    request = SearchRequest(
        index="demo", query="a star that has collapsed", retrievers=[RetrieverChoice("minilm")]
    )
    dense = service.search(request).hits
    assert dense[0].id == "Black hole"
    assert set(dense[0].scores) == {"minilm"}


def test_deadline_and_cancel(service):
    with pytest.raises(DeadlineExceeded):
        service.answer(AnswerRequest(index="demo", query="What is a black hole?", timeout_ms=1))
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        service.answer(AnswerRequest(index="demo", query="What is a black hole?"), cancel=cancel)
