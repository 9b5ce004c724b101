"""A segment's documents and passages in one DuckDB file: the catalogue and the texts.

`documents(ordinal, id, title, text, metadata, sha256)` and `passages(row, ordinal, first, last)`;
passages of a document are consecutive rows, offsets are code points of its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.database import open_database
from indexes.document import Document, Passage, content_hash, corpus_hash
from indexes.errors import CorruptIndex
from indexes.filter_sql import where_clause
from indexes.filters import Filter

if TYPE_CHECKING:
    import duckdb

FILE = "documents.duckdb"
BATCH = 4096

_SCHEMA = """
CREATE TABLE documents (
    ordinal UINTEGER NOT NULL, id VARCHAR NOT NULL, title VARCHAR NOT NULL, text VARCHAR NOT NULL,
    metadata JSON NOT NULL, sha256 VARCHAR NOT NULL);
CREATE TABLE passages (
    row UINTEGER NOT NULL, ordinal UINTEGER NOT NULL,
    first UINTEGER NOT NULL, last UINTEGER NOT NULL);
"""


class StoredDocument(msgspec.Struct, frozen=True):
    """A document with what a rewrite needs: its hash and its passages' spans."""

    document: Document
    sha256: str
    spans: list[tuple[int, int]]


class StoreCounts(msgspec.Struct, frozen=True):
    """What was written: `passages_of[ordinal]` passages for each document, and the content hash."""

    passages_of: list[int]
    content: str


def store_documents(folder: Path, documents: Iterator[StoredDocument]) -> StoreCounts:
    """Write the file. Documents are streamed: a batch at a time is in memory."""
    connection = open_database(folder / FILE, read_only=False)
    passages_of: list[int] = []
    hashes: list[str] = []
    try:
        connection.execute(_SCHEMA)
        row = 0
        while batch := list(islice(documents, BATCH)):
            row = _insert(connection, batch, len(passages_of), row)
            passages_of += [len(stored.spans) for stored in batch]
            hashes += [stored.sha256 for stored in batch]
        connection.execute("CHECKPOINT")
    finally:
        connection.close()
    return StoreCounts(passages_of, corpus_hash(hashes))


def _insert(
    connection: duckdb.DuckDBPyConnection, batch: Sequence[StoredDocument], ordinal: int, row: int
) -> int:
    """Insert a batch whose first document and passage get these numbers; return the next row."""
    import pyarrow as pa

    documents = pa.table(
        {
            "ordinal": pa.array(range(ordinal, ordinal + len(batch)), pa.uint32()),
            "id": pa.array([stored.document.id for stored in batch], pa.large_string()),
            "title": pa.array([stored.document.title for stored in batch], pa.large_string()),
            "text": pa.array([stored.document.text for stored in batch], pa.large_string()),
            "metadata": pa.array(
                [msgspec.json.encode(stored.document.metadata).decode() for stored in batch],
                pa.large_string(),
            ),
            "sha256": pa.array([stored.sha256 for stored in batch], pa.string()),
        }
    )
    spans = [
        (ordinal + number, first, last)
        for number, stored in enumerate(batch)
        for first, last in stored.spans
    ]
    passages = pa.table(
        {
            "row": pa.array(range(row, row + len(spans)), pa.uint32()),
            "ordinal": pa.array([span[0] for span in spans], pa.uint32()),
            "first": pa.array([span[1] for span in spans], pa.uint32()),
            "last": pa.array([span[2] for span in spans], pa.uint32()),
        }
    )
    for name, table in (("documents", documents), ("passages", passages)):
        connection.register("incoming", table)
        connection.execute(f"INSERT INTO {name} SELECT * FROM incoming")
        connection.unregister("incoming")
    return row + len(spans)


class DocumentStore:
    """A sealed segment's documents; safe for threads, each call has a cursor of its own."""

    def __init__(self, folder: Path) -> None:
        self._connection = open_database(folder / FILE, read_only=True)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def passages(self, rows: Sequence[int]) -> dict[int, Passage]:
        """The passages of these rows, texts cut out by code point."""
        found = self._query(
            "SELECT p.row, d.id, d.title, substring(d.text, p.first + 1, p.last - p.first), "
            "p.first, p.last, d.metadata FROM passages p JOIN documents d USING (ordinal) "
            "WHERE p.row IN (SELECT unnest(?))",
            [list(rows)],
        ).fetchall()
        return {
            row: Passage(row, key, title, text, first, last, msgspec.json.decode(metadata))
            for row, key, title, text, first, last, metadata in found
        }

    def document(self, ordinal: int) -> Document:
        """One whole document."""
        rows = self._query(
            "SELECT id, title, text, metadata FROM documents WHERE ordinal = ?", [ordinal]
        ).fetchall()
        key, title, text, metadata = rows[0]
        return Document(key, text, title, msgspec.json.decode(metadata))

    def ordinals(self, ids: Sequence[str]) -> dict[str, int]:
        """Ordinals of the documents with these ids, those that are here."""
        found = self._query(
            "SELECT id, ordinal FROM documents WHERE id IN (SELECT unnest(?))", [list(ids)]
        )
        return dict(found.fetchall())

    def ids(self) -> list[str]:
        """Every document's id, by ordinal."""
        found = self._query("SELECT id FROM documents ORDER BY ordinal").fetchall()
        return [key for (key,) in found]

    def hashes(self, ordinals: Sequence[int]) -> list[str]:
        """Content hashes of these documents, in no particular order."""
        found = self._query(
            "SELECT sha256 FROM documents WHERE ordinal IN (SELECT unnest(?))", [list(ordinals)]
        ).fetchall()
        return [sha256 for (sha256,) in found]

    def all_hashes(self) -> list[str]:
        """Every document's content hash, by ordinal."""
        found = self._query("SELECT sha256 FROM documents ORDER BY ordinal").fetchall()
        return [sha256 for (sha256,) in found]

    def matching(self, chosen: Filter) -> NDArray[np.uint32]:
        """Ordinals of the documents that a filter lets through."""
        clause, parameters = where_clause(chosen)
        found = self._query(f"SELECT ordinal FROM documents WHERE {clause}", parameters)
        return np.asarray(found.fetchnumpy()["ordinal"], dtype=np.uint32)

    def stored(self) -> Iterator[StoredDocument]:
        """Every document with its spans, by ordinal, streamed."""
        documents = self._query(
            "SELECT ordinal, id, title, text, metadata, sha256 FROM documents ORDER BY ordinal"
        )
        spans = self._spans()
        while batch := documents.fetchmany(BATCH):
            for ordinal, key, title, text, metadata, sha256 in batch:
                document = Document(key, text, title, msgspec.json.decode(metadata))
                yield StoredDocument(document, sha256, spans.get(ordinal, []))

    def _spans(self) -> dict[int, list[tuple[int, int]]]:
        spans: dict[int, list[tuple[int, int]]] = {}
        rows = self._query("SELECT ordinal, first, last FROM passages ORDER BY row").fetchall()
        for ordinal, first, last in rows:
            spans.setdefault(ordinal, []).append((first, last))
        return spans

    def _query(self, sql: str, parameters: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
        """Raises `CorruptIndex` for a block that does not match DuckDB's own checksum."""
        import duckdb

        try:
            return self._connection.cursor().execute(sql, list(parameters))
        except duckdb.Error as error:
            if "Corrupt database" in str(error):
                raise CorruptIndex(f"{FILE} is damaged: {error}") from error
            raise


def with_hash(document: Document, spans: list[tuple[int, int]]) -> StoredDocument:
    """A fresh document, ready to be stored."""
    return StoredDocument(document, content_hash(document), spans)
