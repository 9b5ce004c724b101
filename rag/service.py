"""The service: open indexes and loaded models, and the two things people ask of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from indexes.bounded_cache import CacheState
from indexes.document import Document
from indexes.errors import EvidentError
from indexes.library import read_aliases, set_alias
from indexes.lock import writers_turn
from indexes.manifest import Manifest
from indexes.snapshot import Snapshot
from rag import stages
from rag.answer import AnswerRequest, AnswerResponse
from rag.answering import answer_from
from rag.config import Settings
from rag.documents import delete_document, put_document
from rag.explain import explained
from rag.generate.language_model import LanguageModel
from rag.generating import GenerateRequest, GenerateResponse, generate_text
from rag.grounding import ground
from rag.hits import hits_of
from rag.information import IndexInfo, Information, index_info, information
from rag.locating import LocatedHit, Pointing, highlighted, point
from rag.open_indexes import OpenIndexes
from rag.open_retrievers import OpenRetrievers
from rag.ranking import RankedQuery, choices_of, query_warnings, rank
from rag.result_cache import ResultCache
from rag.retrievers.retriever import Retriever
from rag.search import Hit, SearchRequest, SearchResponse
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
    named,
)
from rag.stopwatch import Stopwatch

if TYPE_CHECKING:
    from rag.compress.compression import CompressRequest, CompressResponse
    from rag.compress.compressor import Compressor
    from rag.compress.token_counter import TokenCounter
    from rag.gear.locator import Locator
    from rag.generate.generator import Generator

logger = logging.getLogger(__name__)


class Service:
    """Opens each index and each model once and shares them between threads.

    A request sees one snapshot from its beginning to its end; an index that was committed to
    meanwhile is reopened by the next request.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._indexes = OpenIndexes(settings.root, settings.passage_cache_mb * 1_000_000)
        self._retrievers = OpenRetrievers(settings)
        self._results = ResultCache(settings.result_cache_mb * 1_000_000)
        self._generator: Generator | None = None
        self._compressor: Compressor | None = None
        self._counter: TokenCounter | None = None
        self._locator: Locator | None = None
        self._compressor_lock = threading.Lock()
        self._locator_lock = threading.Lock()
        self._generator_lock = threading.Lock()
        # A service's writers wait for each other; only somebody else's build is a conflict.
        self._writing = threading.Lock()

    def search(self, request: SearchRequest, *, request_id: str = "") -> SearchResponse:
        """Ranked evidence for a query. Raises from the tree in `indexes.errors`."""
        watch = Stopwatch(request.timeout_ms)
        with watch.stage("open"):
            opened = self._indexes.open(request.index)
        known = self._results.get(opened.serial, request)
        if known is None:
            known = self._searched(opened.snapshot, request, watch)
            self._results.put(opened.serial, request, known)
        return msgspec.structs.replace(known, request_id=request_id, timings_ms=watch.total())

    def answer(
        self,
        request: AnswerRequest,
        *,
        request_id: str = "",
        cancel: threading.Event | None = None,
        on_text: Callable[[str], None] | None = None,
        on_evidence: Callable[[list[Hit]], None] | None = None,
    ) -> AnswerResponse:
        """A cited answer; `cancel` stops decoding within a step, `on_text` gets text at once.

        `on_evidence` gets the hits that the answer will be written from.
        """
        watch = Stopwatch(request.timeout_ms)
        lookup = SearchRequest(
            index=request.index,
            query=request.query,
            limit=request.limit,
            retrievers=request.retrievers,
            fusion=request.fusion,
            filter=request.filter,
            highlight="sentences" if request.locate else "terms",
        )
        with watch.stage("open"):
            snapshot = self.snapshot(request.index)
        ranked = self._rank(snapshot, lookup, request.limit, watch)
        hits = self._hits(snapshot, lookup, ranked, watch)
        return answer_from(
            request,
            snapshot,
            ranked,
            hits,
            self.generator,
            self.compressor,
            watch,
            query_warnings(ranked),
            request_id=request_id,
            cancel=cancel,
            on_text=on_text,
            on_evidence=on_evidence,
        )

    def encode(self, request: EncodeRequest, *, request_id: str = "") -> Encoded:
        """The query as the retrievers of an index represent it."""
        watch = Stopwatch(request.timeout_ms)
        with watch.stage("open"):
            snapshot = self.snapshot(request.index)
            choices = choices_of(snapshot.manifest, request.retrievers)
            names = [choice.name for choice in choices]
            retrievers = self._retrievers.encoders(snapshot, names)
        return named(stages.encode(snapshot, retrievers, choices, request, watch), request_id)

    def retrieve(self, request: RetrieveRequest, *, request_id: str = "") -> Retrieved:
        """What each retriever finds for an encoded query."""
        watch, snapshot = Stopwatch(request.timeout_ms), self.snapshot(request.index)
        return named(stages.retrieve(snapshot, request, watch), request_id)

    def fuse(self, request: FuseRequest, *, request_id: str = "") -> Fused:
        """Hits from the rankings of several retrievers."""
        watch, snapshot = Stopwatch(request.timeout_ms), self.snapshot(request.index)
        return named(stages.fuse_rankings(snapshot, request, watch), request_id)

    def locate(self, request: LocateRequest, *, request_id: str = "") -> Located:
        """The hits that can stand as evidence, and their sentences where those are asked for."""
        watch, snapshot = Stopwatch(request.timeout_ms), self.snapshot(request.index)
        return named(stages.locate(snapshot, request, self.locator, watch), request_id)

    def ground(
        self,
        request: GroundedRequest,
        *,
        request_id: str = "",
        cancel: threading.Event | None = None,
    ) -> GroundedResponse:
        """A text from evidence, with citations."""
        return ground(request, self.generator, request_id=request_id, cancel=cancel)

    def generate(
        self,
        request: GenerateRequest,
        *,
        request_id: str = "",
        cancel: threading.Event | None = None,
        on_text: Callable[[str], None] | None = None,
        draft_model: LanguageModel | None = None,
    ) -> GenerateResponse:
        """The continuation of a prompt; nothing of it is remembered for other requests' drafts."""
        generator = self.generator()
        return generate_text(
            generator.model,
            request,
            request_id=request_id,
            memory=generator.fresh_memory(),
            draft_model=draft_model,
            cancel=cancel,
            on_text=on_text,
        )

    def compress(self, request: CompressRequest, *, request_id: str = "") -> CompressResponse:
        """A text or hits with the less important words left out, each kept one with its place."""
        from rag.compress.stage import compress_request

        watch = Stopwatch(request.timeout_ms)
        with watch.stage("load"):
            compressor, counter = self.compressor(), self._token_counter()
        return compress_request(compressor, request, counter, watch, request_id=request_id)

    def compressor(self) -> Compressor:
        """The compressor, with the token classifier of the settings, loaded at the first call."""
        with self._compressor_lock:
            if self._compressor is None:
                from rag.compress.opening import open_compressor

                self._compressor = open_compressor(
                    self.settings, locator=self.locator, download=False
                )
            return self._compressor

    def point(self, question: str, hits: Sequence[Hit], asked: Pointing) -> list[LocatedHit]:
        """The sentences of hits that answer the likeliest."""
        return point(self.locator(), question, hits, asked)

    def locator(self) -> Locator:
        """The model that points at sentences, loaded at the first call."""
        with self._locator_lock:
            if self._locator is None:
                from rag.gear.opening import locator_of

                self._locator = locator_of(self.settings, download=False)
            return self._locator

    def generator(self) -> Generator:
        """The language model, loaded at the first call."""
        with self._generator_lock:
            if self._generator is None:
                from rag.generate.generator import Generator
                from rag.generate.opening import open_generator

                model = open_generator(self.settings.generator, self.settings)
                self._generator = Generator(model, self.settings.prefix_cache_mb * 1_000_000)
            return self._generator

    def snapshot(self, name: str) -> Snapshot:
        """The index as it is now; aliases are followed. Raises `IndexNotFound`, `CorruptIndex`."""
        return self._indexes.open(name).snapshot

    def retrievers(self, snapshot: Snapshot, names: Sequence[str]) -> dict[str, Retriever]:
        """Working retrievers of an index, loaded once a model."""
        return self._retrievers.of(snapshot, names)

    def document(self, name: str, key: str) -> tuple[int, Document]:
        """The index's version and a document of it. Raises `DocumentNotFound`."""
        snapshot = self.snapshot(name)
        return snapshot.manifest.version, snapshot.document(key)

    def put_document(self, name: str, document: Document) -> tuple[int, int]:
        """Add or replace a document; the index's new version and size. See `rag.documents`."""
        with self._writing, writers_turn(self.settings.root):
            manifest = put_document(name, document, self.settings, self._working)
        return manifest.version, manifest.n_documents

    def delete_document(self, name: str, key: str) -> tuple[int, int]:
        """Delete a document; the index's new version and size. Raises `DocumentNotFound`."""
        with self._writing, writers_turn(self.settings.root):
            manifest = delete_document(name, key, self.settings)
        return manifest.version, manifest.n_documents

    def index_names(self) -> list[str]:
        """Names of the indexes under the root."""
        return self._indexes.names()

    def quarantined(self) -> list[str]:
        """Names of those that are not served because their files are damaged."""
        return self._indexes.quarantined()

    def aliases(self) -> dict[str, str]:
        """Alias → index."""
        return read_aliases(self.settings.root)

    def set_alias(self, alias: str, index: str | None) -> None:
        """Point an alias at an index, or remove it with None. See `indexes.library`."""
        with self._writing, writers_turn(self.settings.root):
            set_alias(self.settings.root, alias, index)

    def index_info(self, name: str) -> IndexInfo:
        """Facts about one index."""
        return index_info(self.snapshot(name).manifest)

    def info(self) -> Information:
        """What this service is and can do."""
        return information(self.settings, self.index_names())

    def warm_up(self) -> None:
        """Verify every index and load every model, so that the first request is not the slow one.

        What is damaged is logged and left out: all else is served. Raises what loading the
        generator or the compressor raised.
        """
        for name in self.index_names():
            try:
                self._indexes.verify(name)
                snapshot = self.snapshot(name)
                names = [entry.name for entry in snapshot.manifest.retrievers]
                for retriever in self.retrievers(snapshot, names).values():
                    retriever.encode_queries(["warm up"])
            except EvidentError as error:
                logger.error("the index %r cannot be served: %s", name, error)  # noqa: TRY400
        self.compressor()
        if self.settings.sentence_scorer == "locator":
            try:
                self.locator().locate("warm up", [("", "It is warm.")])
            except EvidentError as error:
                logger.error("sentences cannot be pointed at: %s", error)  # noqa: TRY400
        self.generator()

    def watch_batches(self, sizes: Callable[[int], None]) -> None:
        """Have `sizes` told of each batch of queries that was encoded together."""
        self._retrievers.batch_sizes = sizes

    def cache_states(self) -> dict[str, CacheState]:
        """How the caches do."""
        return {
            "results": self._results.state(),
            "encodings": self._retrievers.encodings(),
            "passages": self._indexes.passages(),
        }

    def ready(self) -> bool:
        """Whether the generator is loaded."""
        return self._generator is not None

    def close(self) -> None:
        """Let go of indexes and models."""
        self._indexes.close()
        self._retrievers.close()
        self._results.clear()
        self._generator = self._compressor = self._counter = None
        self._locator = None

    def _working(self, manifest: Manifest) -> list[Retriever]:
        names = [entry.name for entry in manifest.retrievers]
        return list(self.retrievers(self.snapshot(manifest.name), names).values())

    def _token_counter(self) -> TokenCounter:
        """The generator's tokens; the model itself is not loaded for them."""
        with self._generator_lock:
            if self._generator is not None:
                return self._generator.model.tokenizer
            if self._counter is None:
                from rag.compress.token_counter import FolderTokens
                from rag.models.resolver import resolve

                model = resolve(self.settings.generator, self.settings.cache)
                self._counter = FolderTokens(model.folder)
            return self._counter

    def _searched(
        self, snapshot: Snapshot, request: SearchRequest, watch: Stopwatch
    ) -> SearchResponse:
        ranked = self._rank(snapshot, request, request.offset + request.limit, watch)
        response = SearchResponse(
            request_id="",
            index=request.index,
            index_version=snapshot.manifest.version,
            hits=self._hits(snapshot, request, ranked, watch),
            timings_ms={},
            truncated=bool(ranked.truncated),
            warnings=query_warnings(ranked),
        )
        if not request.explain:
            return response
        with watch.stage("explain"):
            retrievers = self.retrievers(snapshot, list(ranked.vectors))
            return explained(response, request.query, ranked, retrievers)

    def _rank(
        self, snapshot: Snapshot, request: SearchRequest, limit: int, watch: Stopwatch
    ) -> RankedQuery:
        with watch.stage("load"):
            choices = choices_of(snapshot.manifest, request.retrievers)
            retrievers = self._retrievers.encoders(snapshot, [choice.name for choice in choices])
        return next(
            rank(
                snapshot,
                retrievers,
                [request.query],
                choices,
                request.fusion,
                limit,
                request.filter,
                watch,
            )
        )

    def _hits(
        self, snapshot: Snapshot, request: SearchRequest, ranked: RankedQuery, watch: Stopwatch
    ) -> list[Hit]:
        with watch.stage("fetch"):
            hits = hits_of(snapshot, request, ranked)
        if request.highlight == "sentences" and hits:
            with watch.stage("locate"):
                hits = highlighted(hits, self.point(request.query, hits, Pointing()))
        return hits
