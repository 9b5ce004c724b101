"""The manifest: the one small file that says what an index is made of."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from indexes.errors import CorruptIndex, IndexNotFound
from indexes.files import write_durably

FORMAT = 1
MANIFEST = "manifest.json"
SEGMENTS = "segments"


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a segment: its size and SHA-256."""

    bytes: int
    sha256: str


class SegmentEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One immutable segment, and the file of its tombstones where documents were deleted.

    `n_documents` and `n_passages` count everything written, deleted or not. `content` is the
    sum mod 2^256 of the live documents' content hashes.
    """

    id: str
    n_documents: int
    n_passages: int
    content: str
    files: dict[str, FileEntry]
    tombstones: str | None = None
    tombstones_sha256: str = ""
    n_deleted: int = 0
    n_deleted_passages: int = 0


class RetrieverEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What made a retriever's representations, so that queries are made the same way.

    `parts` says what it keeps on disk: "sparse", "dense" or both. `weighting` "bm25" marks sparse
    weights that are term frequencies, scored with the statistics of the live index.
    """

    name: str
    kind: str
    parts: list[str]
    model: str = ""
    revision: str = ""
    sha256: str = ""
    weighting: str = "dot"
    params: dict[str, Any] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that must agree before an index is searched.

    `version` grows by one with each commit and is echoed in every search response.
    `corpus_sha256` is a hash over the live documents' content hashes, whatever their order.
    `source` is the fingerprint of the inputs of the last complete build.
    """

    name: str
    version: int
    format: int
    tool: str
    created: str
    analyzer: dict[str, Any]
    analyzer_sha256: str
    passages: dict[str, Any]
    retrievers: list[RetrieverEntry]
    segments: list[SegmentEntry]
    n_documents: int
    n_passages: int
    corpus_sha256: str
    source: str = ""


class _Envelope(msgspec.Struct, frozen=True):
    """The manifest's bytes with their own checksum: a flipped bit is seen before it is believed."""

    sha256: str
    manifest: msgspec.Raw


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make `manifest` the folder's current one: the commit point."""
    body = msgspec.json.encode(manifest)
    digest = hashlib.sha256(body).hexdigest()
    write_durably(
        folder / MANIFEST, msgspec.json.encode({"sha256": digest, "manifest": msgspec.Raw(body)})
    )


def read_manifest(folder: Path) -> Manifest:
    """The folder's current manifest.

    Raises:
        IndexNotFound: there is none.
        CorruptIndex: it does not match its own checksum, or another format wrote it.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IndexNotFound(f"there is no index {folder.name!r}") from error
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        if hashlib.sha256(envelope.manifest).hexdigest() != envelope.sha256:
            raise CorruptIndex(f"the manifest of {folder.name!r} does not match its checksum")
        _check_format(folder.name, envelope.manifest)
        return msgspec.json.decode(envelope.manifest, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptIndex(f"the manifest of {folder.name!r} cannot be read: {error}") from error


class _FormatOnly(msgspec.Struct, frozen=True):
    format: int


def _check_format(name: str, body: msgspec.Raw) -> None:
    found = msgspec.json.decode(body, type=_FormatOnly).format
    if found != FORMAT:
        raise CorruptIndex(
            f"the index {name!r} has format {found}; this version reads format {FORMAT}: "
            "build it again"
        )
