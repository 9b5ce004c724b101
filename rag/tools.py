"""What an agent may ask for: each tool takes a few arguments and tells a model and a program."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from indexes.filters import Filter
from rag.answer import AnswerRequest
from rag.search import Limit, Name, Query, SearchRequest

if TYPE_CHECKING:
    from rag.service import Service


class SearchArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent says of a search."""

    index: Annotated[Name, Meta(description="the index to search")]
    query: Annotated[Query, Meta(description="a question or key words")]
    limit: Annotated[Limit, Meta(description="how many documents")] = 5
    filter: Annotated[Filter | None, Meta(description="conditions on the documents' metadata")] = (
        None
    )


class AnswerArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent says of a question."""

    index: Annotated[Name, Meta(description="the index to answer from")]
    query: Annotated[Query, Meta(description="the question, as one sentence")]
    limit: Annotated[
        int, Meta(ge=1, le=50, description="how many documents the answer is written from")
    ] = 3
    filter: Annotated[Filter | None, Meta(description="conditions on the documents' metadata")] = (
        None
    )


class Told(msgspec.Struct, frozen=True):
    """What a tool says: `text` for the agent's model, the whole response for its program."""

    text: str
    response: Any


class Tool(msgspec.Struct, frozen=True):
    """One tool: what it is for, what it takes, and what it does with that."""

    description: str
    arguments: type[Any]
    call: Callable[[Service, Any, threading.Event], Told]


def search(service: Service, asked: SearchArguments, _: threading.Event) -> Told:
    """Documents as a numbered list."""
    found = service.search(
        SearchRequest(asked.index, asked.query, asked.limit, filter=asked.filter)
    )
    hits = [f"[{hit.rank}] {hit.title or hit.id}\n{hit.text}" for hit in found.hits]
    return Told("\n\n".join(hits) or "Nothing was found.", found)


def answer(service: Service, asked: AnswerArguments, cancel: threading.Event) -> Told:
    """The answer, then what bears it out."""
    found = service.answer(
        AnswerRequest(asked.index, asked.query, asked.limit, filter=asked.filter), cancel=cancel
    )
    if found.status == "no_evidence":
        return Told("The index holds no evidence for this question.", found)
    texts = {hit.id: hit.text for hit in found.evidence}
    titles = {hit.id: hit.title or hit.id for hit in found.evidence}
    lines = [
        f"“{found.answer[c.start : c.end]}”: {titles[c.hit_id]} says "
        f"“{texts[c.hit_id][c.source_start : c.source_end]}”"
        for c in found.citations
    ]
    return Told("\n".join([found.answer, *lines, *found.warnings]), found)


TOOLS = {
    "search": Tool(
        "Find documents of an index that say something about a question.",
        SearchArguments,
        search,
    ),
    "answer": Tool(
        "Answer a question from the documents of an index, with the sentences that bear it out. "
        "It says so when there is no evidence.",
        AnswerArguments,
        answer,
    ),
}


def schema_of(shape: type[Any]) -> dict[str, Any]:
    """The JSON schema of a struct, an object at its root as MCP wants it."""
    _, parts = msgspec.json.schema_components([shape], ref_template="#/$defs/{name}")
    root: dict[str, Any] = parts.pop(shape.__name__)
    return {**root, "$defs": parts}
