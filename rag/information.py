"""What a person may want to know of the service and of an index."""

from __future__ import annotations

from typing import Any

import msgspec

from indexes.manifest import Manifest


class IndexInfo(msgspec.Struct, frozen=True):
    """What a person may want to know of an index."""

    name: str
    version: int
    n_documents: int
    n_passages: int
    n_segments: int
    created: str
    tool: str
    corpus_sha256: str
    analyzer_sha256: str
    retrievers: list[dict[str, Any]]


class Information(msgspec.Struct, frozen=True):
    """What this service is and can do."""

    name: str
    version: str
    generator: str
    decoding: list[str]
    fusion: list[str]
    indexes: list[str]
    compressor: str = "none"


def index_info(manifest: Manifest) -> IndexInfo:
    """The manifest's facts, without its file lists."""
    retrievers: list[dict[str, Any]] = msgspec.to_builtins(manifest.retrievers)
    return IndexInfo(
        name=manifest.name,
        version=manifest.version,
        n_documents=manifest.n_documents,
        n_passages=manifest.n_passages,
        n_segments=len(manifest.segments),
        created=manifest.created,
        tool=manifest.tool,
        corpus_sha256=manifest.corpus_sha256,
        analyzer_sha256=manifest.analyzer_sha256,
        retrievers=retrievers,
    )
