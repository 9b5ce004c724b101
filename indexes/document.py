"""A document as it comes in, and a passage as it is searched."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from indexes.errors import InvalidInput

MAX_ID_CHARS = 512
"""Longer ids are rejected: they are keys, not content."""


class Document(msgspec.Struct, frozen=True):
    """One document. `id` is an opaque key: it is never used as a path."""

    id: str
    text: str
    title: str = ""
    metadata: dict[str, Any] = {}


class Passage(msgspec.Struct, frozen=True):
    """A stretch of a document, `text == document.text[start:end]`, offsets in code points.

    `row` is the passage's number in its snapshot.
    """

    row: int
    document_id: str
    title: str
    text: str
    start: int
    end: int
    metadata: dict[str, Any] = {}


def passage_bytes(passage: Passage) -> int:
    """About what a passage takes in memory; metadata by how they would be written."""
    texts = sys.getsizeof(passage.text) + sys.getsizeof(passage.title)
    return texts + 4 * len(msgspec.json.encode(passage.metadata)) + 500


def check_document(document: Document) -> None:
    """Raise `InvalidInput` with a reason a person can act on, if the document is not usable."""
    if not document.id:
        raise InvalidInput("the id is empty", "/id")
    if len(document.id) > MAX_ID_CHARS:
        raise InvalidInput(f"the id has over {MAX_ID_CHARS} characters", "/id")
    if any(ord(ch) < 32 or ord(ch) == 127 for ch in document.id):
        raise InvalidInput("the id contains a control character", "/id")
    for name, value in (("id", document.id), ("title", document.title), ("text", document.text)):
        if not _encodable(value):
            raise InvalidInput(f"the {name} contains a lone surrogate", f"/{name}")
    if "\0" in document.title or "\0" in document.text:
        raise InvalidInput("the text contains a NUL character", "/text")
    if not document.text.strip() and not document.title.strip():
        raise InvalidInput("the document is empty: neither title nor text", "/text")


def content_hash(document: Document) -> str:
    """SHA-256 over id, title, text and metadata in canonical JSON: equal content, equal hash."""
    canonical = msgspec.json.encode(
        [document.id, document.title, document.text, document.metadata], order="sorted"
    )
    return hashlib.sha256(canonical).hexdigest()


def corpus_hash(content_hashes: Iterable[str], *, without: Iterable[str] = ()) -> str:
    """A hash of a set of documents whatever their order: the sum of their hashes mod 2^256.

    Being a sum, hashes of parts add up and deleted documents are taken out again.
    """
    total = sum(int(sha256, 16) for sha256 in content_hashes)
    total -= sum(int(sha256, 16) for sha256 in without)
    return f"{total % (1 << 256):064x}"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
