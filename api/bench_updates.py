"""Searches while documents come and go: none may fail, none may find what is deleted."""

from __future__ import annotations

import http.client
import itertools
import re
import threading
import time
from collections.abc import Iterator, Sequence

import msgspec

from api.load import OK, REFUSED, Reply, request_bytes, run_level
from indexes.document import Document

N_CLIENTS = 8
N_QUERIES = 50
"""Few enough that they repeat: what a cache holds must not outlive a deletion."""

PREFIX = "bench-"
_FOUND = re.compile(rb'"id":"(bench-\d+)"')


def search_while_updating(
    port: int, index: str, retrievers: Sequence[str], documents: Sequence[Document], seconds: float
) -> dict[str, int]:
    """Counts of what happened: `deleted_found` and `failed` should be 0.

    A writer puts copies of documents under new ids and deletes each again. A search counts as
    wrong when it began after a deletion was acknowledged and found the document all the same.
    """
    sources = list(documents[:N_QUERIES])
    writer = _Writer(port, index, sources)
    wrong, found, failed = 0, 0, 0

    def check(reply: Reply) -> None:
        nonlocal wrong, found, failed
        failed += reply.status not in {OK, REFUSED}
        for key in _FOUND.findall(reply.body):
            gone_at = writer.deleted.get(key.decode())
            found += 1
            wrong += gone_at is not None and gone_at < reply.started

    thread = threading.Thread(target=writer.run, daemon=True)
    thread.start()
    requests = _requests(index, retrievers, sources)
    level = run_level(port, N_CLIENTS, seconds, requests, check)
    writer.stop.set()
    thread.join(60)
    return {
        "served": level.served,
        "refused": level.refused,
        "puts": writer.n_put,
        "deletions": len(writer.deleted),
        "put_ones_found": found,
        "deleted_found": wrong,
        "failed": max(failed, level.failed) + writer.n_failed,
    }


class _Writer:
    """Puts and deletes in turn; two copies are there at a time."""

    def __init__(self, port: int, index: str, sources: Sequence[Document]) -> None:
        self._port = port
        self._index = index
        self._sources = sources
        self.deleted: dict[str, float] = {}
        self.n_put = self.n_failed = 0
        self.stop = threading.Event()

    def run(self) -> None:
        """Until told to stop; what is left is deleted then."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        there: list[str] = []
        for number in itertools.count():
            if self.stop.is_set():
                break
            source = self._sources[number % len(self._sources)]
            key = f"{PREFIX}{number}"
            body = msgspec.json.encode({"title": source.title, "text": source.text})
            if self._send(connection, "PUT", key, body):
                self.n_put += 1
                there.append(key)
            if len(there) > 1:
                self._delete(connection, there.pop(0))
        for key in there:
            self._delete(connection, key)
        connection.close()

    def _delete(self, connection: http.client.HTTPConnection, key: str) -> None:
        if self._send(connection, "DELETE", key, None):
            self.deleted[key] = time.monotonic()

    def _send(
        self, connection: http.client.HTTPConnection, method: str, key: str, body: bytes | None
    ) -> bool:
        path = f"/v1/indexes/{self._index}/documents/{key}"
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        self.n_failed += response.status not in {OK, REFUSED}
        return response.status == OK


def _requests(
    index: str, retrievers: Sequence[str], sources: Sequence[Document]
) -> Iterator[bytes]:
    bodies = [
        {"index": index, "query": one.text[:100], "retrievers": [{"name": n} for n in retrievers]}
        for one in sources
    ]
    wires = [request_bytes("POST", "/v1/search", msgspec.json.encode(body)) for body in bodies]
    return itertools.cycle(wires)
