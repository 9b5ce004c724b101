"""A small service that really searches and really writes an answer, and the app around it."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.gate import Gate
from api.limits import Limits
from api.server import GRACE_S, GracefulServer, bind
from indexes.analyzer import AnalyzerConfig
from indexes.bounded_cache import CacheState
from indexes.document import Document, check_document
from indexes.errors import Cancelled, DocumentNotFound, IndexNotFound
from indexes.passages import PassageConfig
from rag.answer import AnswerRequest, AnswerResponse, Citation, DecodeReport, Usage
from rag.build import BuildRequest, build_index
from rag.compress.compression import CompressRequest, CompressResponse
from rag.compress.compressor import Compressor
from rag.compress.stage import compress_request
from rag.config import Settings
from rag.generate.generator import Generator
from rag.generating import GenerateRequest, GenerateResponse
from rag.information import IndexInfo, Information
from rag.jobs.desk import Desk
from rag.progress import Silent
from rag.retrievers.retriever import parse_specs
from rag.search import Hit, SearchRequest, SearchResponse, StageScore
from rag.service import Service
from rag.staged import (
    Encoded,
    EncodeRequest,
    Fused,
    FuseRequest,
    GroundedRequest,
    GroundedResponse,
    Located,
    LocateRequest,
    Retrieved,
    RetrieveRequest,
)
from rag.stopwatch import Stopwatch

sys.path.insert(0, str(Path(__file__).parent))

DOCUMENTS = {
    "penicillin": "Penicillin was discovered by Alexander Fleming in 1928.",
    "radium": "Marie Curie discovered radium and polonium.",
    "rtl": "البنسلين مضاد حيوي 🧫",
}

REAL_DOCUMENTS = [
    {
        "id": "penicillin",
        "title": "Penicillin",
        "text": "Penicillin was discovered by Alexander Fleming in 1928. It kills bacteria.",
        "metadata": {"year": 1928, "field": "medicine"},
    },
    {
        "id": "radium",
        "title": "Radium",
        "text": "Marie Curie discovered radium in 1898.",
        "metadata": {"year": 1898, "field": "chemistry"},
    },
    {"id": "../🧫", "title": "البنسلين", "text": "البنسلين مضاد حيوي اكتشفه ألكسندر فلمنج."},
]


class Letters:
    """One token a code point."""

    def encode(self, text: str) -> list[int]:
        return [ord(ch) for ch in text]


class FewDocuments:
    """Ranks three documents by shared words; answers with the first, a word at a time."""

    def __init__(self, word_s: float = 0.0) -> None:
        self.word_s = word_s
        self.words_written = 0
        self.stopped = threading.Event()
        self.loaded = threading.Event()
        self.may_load = threading.Event()
        self.may_load.set()

    def search(self, request: SearchRequest, *, request_id: str) -> SearchResponse:
        hits = self._hits(request.index, request.query)[request.offset :][: request.limit]
        return SearchResponse(request_id, request.index, 1, hits, {"total": 0.1})

    def answer(
        self,
        request: AnswerRequest,
        *,
        request_id: str,
        cancel: threading.Event | None = None,
        on_evidence: Callable[[list[Hit]], None] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> AnswerResponse:
        evidence = self._hits(request.index, request.query)[: request.limit]
        if on_evidence is not None:
            on_evidence(evidence)
        words = evidence[0].text.split(" ") if evidence else []
        for word in words:
            if cancel is not None and cancel.wait(self.word_s):
                self.stopped.set()
                raise Cancelled("the answer was cancelled")
            if on_text is not None:
                on_text(word if not self.words_written else f" {word}")
            self.words_written += 1
        text = " ".join(words)
        citations = [Citation(0, len(text), evidence[0].id, 0, len(text))] if evidence else []
        return AnswerResponse(
            request_id,
            request.index,
            1,
            "ok" if evidence else "no_evidence",
            text,
            citations,
            evidence,
            Usage(),
            DecodeReport(finish_reason="stop" if evidence else "not_called"),
            {"total": 0.1},
        )

    def compress(self, request: CompressRequest, *, request_id: str) -> CompressResponse:
        watch = Stopwatch(request.timeout_ms)
        return compress_request(Compressor(), request, Letters(), watch, request_id=request_id)

    def generate(
        self, request: GenerateRequest, *, request_id: str, cancel: threading.Event | None = None
    ) -> GenerateResponse:
        return GenerateResponse(request_id, request.prompt[::-1], Usage(), DecodeReport())

    def encode(self, request: EncodeRequest, *, request_id: str) -> Encoded:
        self.index_info(request.index)
        head = {"index": request.index, "index_version": 1, "query": request.query}
        return Encoded(**head, retrievers=[], codes=[], request_id=request_id)

    def retrieve(self, request: RetrieveRequest, *, request_id: str) -> Retrieved:
        self.index_info(request.index)
        head = {"index": request.index, "index_version": 1, "query": request.query}
        return Retrieved(**head, retrievers=[], codes=[], rankings=[], request_id=request_id)

    def fuse(self, request: FuseRequest, *, request_id: str) -> Fused:
        hits = self._hits(request.index, request.query)[: request.limit]
        head = {"index": request.index, "index_version": 1, "query": request.query}
        rows = list(range(len(hits)))
        return Fused(**head, retrievers=[], codes=[], hits=hits, rows=rows, request_id=request_id)

    def locate(self, request: LocateRequest, *, request_id: str) -> Located:
        self.index_info(request.index)
        head = {"index": request.index, "index_version": 1, "query": request.query}
        ones = [1.0] * len(request.hits)
        return Located(**head, evidence=request.hits, strengths=ones, request_id=request_id)

    def ground(
        self, request: GroundedRequest, *, request_id: str, cancel: threading.Event | None = None
    ) -> GroundedResponse:
        return GroundedResponse(request_id, request.question[::-1], Usage(), DecodeReport())

    def document(self, name: str, key: str) -> tuple[int, Document]:
        self.index_info(name)
        if key not in DOCUMENTS:
            raise DocumentNotFound(f"no document {key!r}")
        return 1, Document(key, DOCUMENTS[key])

    def put_document(self, name: str, document: Document) -> tuple[int, int]:
        self.index_info(name)
        check_document(document)
        return 2, len(DOCUMENTS)

    def delete_document(self, name: str, key: str) -> tuple[int, int]:
        self.document(name, key)
        return 2, len(DOCUMENTS)

    def index_names(self) -> list[str]:
        return ["few"]

    def quarantined(self) -> list[str]:
        return []

    def aliases(self) -> dict[str, str]:
        return {}

    def set_alias(self, alias: str, index: str | None) -> None:
        self.index_info(index or alias)

    def index_info(self, name: str) -> IndexInfo:
        if name != "few":
            raise IndexNotFound(f"no index is called {name!r}")
        return IndexInfo(name, 1, len(DOCUMENTS), len(DOCUMENTS), 1, "", "", "", "", [])

    def info(self) -> Information:
        return Information("evident-rag", "0", "first-hit", [], [], self.index_names())

    def watch_batches(self, sizes: Callable[[int], None]) -> None:
        sizes(1)

    def cache_states(self) -> dict[str, CacheState]:
        return {"results": CacheState(hits=1, misses=2, n_entries=1, n_bytes=10)}

    def ready(self) -> bool:
        return self.loaded.is_set()

    def warm_up(self) -> None:
        self.may_load.wait()
        self.loaded.set()

    def _hits(self, index: str, query: str) -> list[Hit]:
        self.index_info(index)
        asked = _words(query)
        shared = {key: len(asked & _words(text)) for key, text in DOCUMENTS.items()}
        ranked = sorted((-n, key) for key, n in shared.items() if n)
        return [
            Hit(key, rank, float(-n), {"words": StageScore(rank, float(-n))}, key, DOCUMENTS[key])
            for rank, (n, key) in enumerate(ranked, start=1)
        ]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class Live:
    """A server on loopback in a thread; `url` is where it listens."""

    def __init__(
        self,
        service: object,
        limits: Limits,
        gate: Gate | None = None,
        desk: Desk | None = None,
        grace_s: int = GRACE_S,
    ) -> None:
        self.listener = bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.server = GracefulServer(create_app(service, limits, gate, desk), grace_s)
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True
        )

    def __enter__(self) -> Live:
        self.thread.start()
        wait_until(lambda: self.server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=20)
        assert not self.thread.is_alive()


def wait_until(condition: object, timeout_s: float = 60.0) -> None:
    """Return once `condition()` holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict:
    """Check that this is a whole problem document; return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].split(";")[0] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"urn:evident:problem:{slug}"
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["detail"]
    assert problem["title"]
    assert problem["instance"].startswith("/")
    return problem


@pytest.fixture(scope="session", autouse=True)
def only_loopback() -> Iterator[None]:
    """Whatever the service does, it opens no connection to another machine."""
    connect = socket.socket.connect

    def checked(self: socket.socket, address: object) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            assert address[0] in {"127.0.0.1", "::1", "localhost"}, f"a way out: {address}"
        connect(self, address)

    socket.socket.connect = checked
    yield
    socket.socket.connect = connect


@pytest.fixture(scope="session")
def few_documents() -> type[FewDocuments]:
    return FewDocuments


@pytest.fixture(scope="session")
def live_server() -> type[Live]:
    return Live


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    return wait_until


@pytest.fixture(scope="session")
def is_problem() -> Callable[[httpx.Response, int, str], dict]:
    return assert_problem


@pytest.fixture
def service() -> FewDocuments:
    return FewDocuments()


@pytest.fixture(scope="session")
def limits() -> Limits:
    return Limits(max_body_bytes=300_000, max_concurrency=2, max_searches=2)


@pytest.fixture
def client(service: FewDocuments, limits: Limits) -> Iterator[TestClient]:
    with TestClient(create_app(service, limits), raise_server_exceptions=False) as client:
        wait_until(service.ready)
        yield client


@pytest.fixture(scope="module")
def tiny_index(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a root with one BM25 index, `tiny`, and of a generator that is not there."""
    root = tmp_path_factory.mktemp("root")
    inputs = root / "documents.jsonl"
    inputs.write_text("".join(json.dumps(document) + "\n" for document in REAL_DOCUMENTS))
    settings = Settings(
        root=root / "indexes",
        cache=root,
        generator=str(root / "absent"),
        compressor="none",
        sentence_scorer="none",
    )
    request = BuildRequest(
        name="tiny",
        inputs=[inputs],
        retrievers=parse_specs("bm25"),
        analyzer=AnalyzerConfig(),
        passages=PassageConfig(),
        rejects=root / "rejects.jsonl",
    )
    build_index(request, settings, Silent())
    return settings


@pytest.fixture(scope="session")
def checks() -> list[Callable[..., bool | None]]:
    """What every response must be: no 5xx, and as the OpenAPI document declares it."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    return [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.response_headers_conformance,
        checks.unsupported_method,
    ]


class WithModel(Service):
    """The real service with a model of the test's own."""

    def __init__(self, settings: Settings, model: object) -> None:
        super().__init__(settings)
        self._generator = Generator(model, prefix_cache_bytes=1_000_000)

    def generator(self) -> Generator:
        return self._generator


@pytest.fixture(scope="session")
def with_model() -> type[WithModel]:
    return WithModel


@pytest.fixture
def answering(tiny_index: Settings, limits: Limits) -> Callable[[object], Live]:
    """A live server over the real service with the given model."""
    return lambda model: Live(WithModel(tiny_index, model), limits)
