"""A build as it was ordered, how far it is, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from indexes.errors import UsageError
from indexes.rejects import Reject
from rag.retrievers.retriever import KNOWN
from rag.search import Name

InputName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)")]
State = Literal["queued", "running", "done", "failed", "cancelled"]

ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
MAX_DOCUMENTS = 100_000


class BuildOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the index shall hold: exactly these documents, and those of the named inputs.

    A document has `id`, `text`, optionally `title` and `metadata`. `inputs` are names of files or
    folders in the folder that the server was given for them (`rag serve --inputs`). A model must
    be one that the server's catalogue knows by name.
    """

    documents: Annotated[list[dict[str, Any]], Meta(max_length=MAX_DOCUMENTS)] = []
    inputs: Annotated[list[InputName], Meta(max_length=100)] = []
    retrievers: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=16)] = ("bm25", "minilm")
    stemmer: Annotated[str, Meta(pattern=r"^[a-z]{1,20}$(?!\n)")] = "porter"
    stopwords: Literal["english", "none"] = "english"
    passage_words: Annotated[int, Meta(ge=0, le=100_000)] = 300
    reuse: Annotated[list[Name], Meta(max_length=16)] = []


class Order(msgspec.Struct, frozen=True):
    """What is kept of an order from its first moment; `digest` tells it from another."""

    id: str
    index: str
    created: str
    digest: str
    build: BuildOrder


class Progress(msgspec.Struct, frozen=True):
    """How far a stage is; `total` is null while nobody knows."""

    title: str
    done: int
    total: int | None
    unit: str


class Underway(msgspec.Struct, frozen=True):
    """What the worker last said. `attempts` counts workers that began."""

    started: str
    attempts: int
    note: str = ""
    progress: Progress | None = None


class Outcome(msgspec.Struct, frozen=True):
    """How it ended; `error` says why it failed."""

    state: State
    finished: str
    error: str = ""
    index_version: int | None = None
    n_documents: int | None = None
    n_rejected: int = 0


class Job(msgspec.Struct, frozen=True):
    """A build as a person sees it. `rejects` are the first of `n_rejected` documents."""

    id: str
    index: str
    state: State
    created: str
    started: str = ""
    finished: str = ""
    attempts: int = 0
    note: str = ""
    progress: Progress | None = None
    error: str = ""
    index_version: int | None = None
    n_documents: int | None = None
    n_rejected: int = 0
    rejects: list[Reject] = []


def check_order(order: BuildOrder) -> None:
    """Raise `UsageError` for what no build could do."""
    unknown = [name for name in order.retrievers if name not in KNOWN]
    if unknown or len(set(order.retrievers)) != len(order.retrievers):
        raise UsageError(f"retrievers: each once, of {', '.join(KNOWN)}")
    if not order.documents and not order.inputs:
        raise UsageError("nothing to build from: neither documents nor inputs")
