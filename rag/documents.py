"""One document of an index: put it or delete it. Each is one commit, searchable at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from indexes.document import Document, check_document, content_hash
from indexes.document_store import StoredDocument
from indexes.errors import IndexNotFound
from indexes.library import index_folder, resolve_alias
from indexes.manifest import Manifest
from indexes.writer import IndexWriter
from rag.config import Settings
from rag.progress import Deferred, Silent
from rag.retrievers.retriever import Retriever
from rag.update import upsert


def put_document(
    name: str,
    document: Document,
    settings: Settings,
    retrievers_of: Callable[[Manifest], Sequence[Retriever]],
) -> Manifest:
    """Add a document, or replace the one with its id. It is on the disk when this returns.

    Raises `IndexNotFound`, `IndexLocked` while someone else writes, `StorageFull`, and
    `InvalidInput` for a document that cannot be used.
    """
    check_document(document)
    with _writer(name, settings) as writer:
        manifest = _committed(name, writer)
        stored = StoredDocument(document, content_hash(document), [])
        upsert(writer, manifest, [stored], retrievers_of(manifest), Deferred(Silent()))
        return writer.merge_small()


def delete_document(name: str, key: str, settings: Settings) -> Manifest:
    """Delete a document from every retriever at once.

    Raises `IndexNotFound`, `DocumentNotFound`, `IndexLocked` and `StorageFull`.
    """
    with _writer(name, settings) as writer:
        _committed(name, writer)
        return writer.delete([key])


def _writer(name: str, settings: Settings) -> IndexWriter:
    folder = index_folder(settings.root, resolve_alias(settings.root, name))
    if not folder.is_dir():
        raise IndexNotFound(f"there is no index {name!r}")
    return IndexWriter(folder)


def _committed(name: str, writer: IndexWriter) -> Manifest:
    manifest = writer.manifest()
    if manifest is None:
        raise IndexNotFound(f"there is no index {name!r}")
    return manifest
