"""What a person may want to know of the service and of an index."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, get_args

import msgspec

from indexes.manifest import Manifest
from rag.answer import DecodeMode, DrafterName, Grammar, VerifierName
from rag.config import Settings
from rag.generate.faithful import FaithfulRule


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
    backend: str = "auto"
    device: str = "cpu"
    verifiers: list[str] = []
    faithful: list[str] = []
    modes: list[str] = []
    monitors: list[str] = []
    grammars: list[str] = []


def information(settings: Settings, indexes: list[str]) -> Information:
    """What a service with these settings can do: every ability has a name that requests use."""
    from rag.generate.monitors.catalogue import monitor_names

    return Information(
        name="evident-rag",
        version=version("evident-rag"),
        generator=settings.generator,
        decoding=["greedy", "sampling", *get_args(DrafterName)],
        fusion=["rrf", "weighted", "from_zero"],
        indexes=indexes,
        compressor=settings.compressor,
        backend=settings.backend,
        device=settings.device,
        verifiers=list(get_args(VerifierName)),
        faithful=list(get_args(FaithfulRule)),
        modes=list(get_args(DecodeMode)),
        monitors=monitor_names(),
        grammars=list(Grammar.__struct_fields__),
    )


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
