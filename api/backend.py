"""What stands behind the routes: the service, its limits and the threads it runs in."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar
from weakref import WeakSet

from litestar.di import NamedDependency
from litestar.exceptions import ServiceUnavailableException, TooManyRequestsException
from litestar.types import Receive

from api.lane import Lane
from api.limits import Limits
from api.metrics import Metrics
from indexes.bounded_cache import CacheState
from indexes.document import Document
from rag.answer import AnswerRequest, AnswerResponse
from rag.compress.compression import CompressRequest, CompressResponse
from rag.generating import GenerateRequest, GenerateResponse
from rag.information import IndexInfo, Information
from rag.jobs.desk import Desk
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
)

logger = logging.getLogger(__name__)
T = TypeVar("T")


class SearchService(Protocol):
    """What the API needs of the domain; safe to call from several threads."""

    def search(self, request: SearchRequest, *, request_id: str) -> SearchResponse:
        """Ranked evidence."""

    def answer(
        self,
        request: AnswerRequest,
        *,
        request_id: str,
        cancel: threading.Event | None = None,
        on_evidence: Callable[[list[Hit]], None] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> AnswerResponse:
        """A cited answer; stops within one decoding step once `cancel` is set.

        What it is answered from, then each new piece of text, are told while it is written.
        """

    def encode(self, request: EncodeRequest, *, request_id: str) -> Encoded:
        """The query as the retrievers of an index represent it."""

    def retrieve(self, request: RetrieveRequest, *, request_id: str) -> Retrieved:
        """What each retriever finds for an encoded query."""

    def fuse(self, request: FuseRequest, *, request_id: str) -> Fused:
        """Hits from the rankings of several retrievers."""

    def locate(self, request: LocateRequest, *, request_id: str) -> Located:
        """The hits that can stand as evidence."""

    def ground(
        self, request: GroundedRequest, *, request_id: str, cancel: threading.Event | None = None
    ) -> GroundedResponse:
        """A text from evidence, with citations."""

    def compress(self, request: CompressRequest, *, request_id: str) -> CompressResponse:
        """Texts with the less important words left out."""

    def generate(
        self, request: GenerateRequest, *, request_id: str, cancel: threading.Event | None = None
    ) -> GenerateResponse:
        """A prompt's continuation; stops within one decoding step once `cancel` is set."""

    def document(self, name: str, key: str) -> tuple[int, Document]:
        """The index's version and a document of it. Raises `DocumentNotFound`."""

    def put_document(self, name: str, document: Document) -> tuple[int, int]:
        """Add or replace a document; the index's new version and number of documents."""

    def delete_document(self, name: str, key: str) -> tuple[int, int]:
        """Delete a document; the index's new version and number of documents."""

    def index_names(self) -> list[str]:
        """Names of the indexes that can be searched, sorted."""

    def quarantined(self) -> list[str]:
        """Names of the indexes that are not served because their files are damaged, sorted."""

    def aliases(self) -> dict[str, str]:
        """Alias → index."""

    def set_alias(self, alias: str, index: str | None) -> None:
        """Point an alias at an index, or remove it with None.

        Raises `UsageError` for a name that an index has, `IndexNotFound`.
        """

    def index_info(self, name: str) -> IndexInfo:
        """Facts about one index. Raises `IndexNotFound`."""

    def info(self) -> Information:
        """What the service is and can do."""

    def watch_batches(self, sizes: Callable[[int], None]) -> None:
        """Have `sizes` told of each batch of queries that was encoded together."""

    def cache_states(self) -> dict[str, CacheState]:
        """How the caches do, by their names."""

    def ready(self) -> bool:
        """Whether the models are loaded; answers at once."""

    def warm_up(self) -> None:
        """Load the models."""


class Backend:
    """Owns the lanes in which requests compute: searches and all that is short, and answers.

    So a search never waits for somebody's long answer.
    """

    def __init__(self, service: SearchService, limits: Limits, desk: Desk | None = None) -> None:
        self.service = service
        self.desk = desk
        self.limits = limits
        self._lanes = [
            Lane("search", limits.max_searches, limits.max_search_queue),
            Lane("answer", limits.max_concurrency, limits.max_queue),
        ]
        self._cancels: WeakSet[threading.Event] = WeakSet()
        self.metrics = Metrics(self._lanes, lambda: service.cache_states())

    async def compute(self, work: Callable[[], T], timeout_ms: int | None = None) -> T:
        """Run something short in a thread. Raises 429 and `DeadlineExceeded`, see `Lane.run`."""
        return await self._run(self._lanes[0], work, timeout_ms)

    async def write(self, work: Callable[[], T], timeout_ms: int | None = None) -> T:
        """Run something that calls the generator; the same for answers."""
        return await self._run(self._lanes[1], work, timeout_ms)

    async def _run(self, lane: Lane, work: Callable[[], T], timeout_ms: int | None) -> T:
        try:
            result = await lane.run(work, timeout_ms)
        except TooManyRequestsException:
            self.metrics.refuse(lane.name)
            raise
        self.metrics.record(result)
        return result

    def new_cancel(self) -> threading.Event:
        """An event that ends an answer: set when its client leaves or the server must stop."""
        cancel = threading.Event()
        self._cancels.add(cancel)
        return cancel

    def stop_answers(self) -> None:
        """Have every answer that is being written end now, with a clean error."""
        for cancel in list(self._cancels):
            cancel.set()

    @asynccontextmanager
    async def cancelled_on_disconnect(self, receive: Receive) -> AsyncIterator[threading.Event]:
        """An event that is set when the client goes away, or when the block is left.

        To be entered after the body was read: from then on the server has nothing to tell but
        `http.disconnect`.
        """
        cancel = self.new_cancel()
        watcher = asyncio.create_task(_watch(receive, cancel))
        try:
            yield cancel
        finally:
            cancel.set()
            watcher.cancel()

    def check_ready(self) -> None:
        """Raise 503 until the models are loaded."""
        if not self.service.ready():
            raise ServiceUnavailableException(
                detail="the models are being loaded", headers={"Retry-After": "1"}
            )

    async def warm_up(self) -> None:
        """Load the models; on failure the service stays alive, not ready, and the log says why."""
        self.service.watch_batches(self.metrics.count_batch)
        try:
            await asyncio.to_thread(self.service.warm_up)
        except Exception:
            logger.exception("the models could not be loaded: the service stays not ready")

    async def close(self) -> None:
        """Wait for running work, drop what is queued."""
        for lane in self._lanes:
            await asyncio.to_thread(lane.shut)


InjectedBackend = NamedDependency[Backend]
"""How a handler asks for the app's backend."""


async def _watch(receive: Receive, cancel: threading.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    cancel.set()
