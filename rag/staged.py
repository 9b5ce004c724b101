"""What passes between the stages of an answer: each reply is the next stage's request.

A request takes its own options beside all that the stage before returned. Rows are places in one
version of an index, so `index_version` travels along and must still be the index's.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from indexes.filters import Filter
from rag.answer import Citation, Decode
from rag.generating import GenerateResponse
from rag.locating import LocatedHit, Pointing
from rag.search import MAX_LIMIT, Fusion, Hit, Limit, Name, Query, RetrieverChoice

MAX_WEIGHT = 1e6
MAX_TERMS = 100_000
MAX_RETRIEVERS = 16

Retrievers = Annotated[list[RetrieverChoice], Meta(max_length=MAX_RETRIEVERS)]
TimeoutMs = Annotated[int, Meta(ge=1, le=600_000)] | None
Row = Annotated[int, Meta(ge=0, le=2**62)]
Number = Annotated[float, Meta(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]
Weight = Annotated[float, Meta(ge=0, le=MAX_WEIGHT)]


class EncodeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query to represent with the retrievers of an index; none named: all that it has."""

    index: Name
    query: Query
    retrievers: Retrievers = []
    timeout_ms: TimeoutMs = None


class SparseTerms(msgspec.Struct, frozen=True):
    """A query over terms: `values[i]` belongs to `tokens[i]`, each token at most once."""

    tokens: Annotated[list[str], Meta(max_length=MAX_TERMS)]
    values: Annotated[list[Weight], Meta(max_length=MAX_TERMS)]


class QueryCode(msgspec.Struct, frozen=True):
    """What one retriever makes of the query: sparse, dense, or both."""

    name: Name
    sparse: SparseTerms | None = None
    dense: Annotated[list[Number], Meta(max_length=65_536)] | None = None


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What every stage tells. `truncated`: a model read only the beginning of the query."""

    index: Name
    index_version: Annotated[int, Meta(ge=0)]
    query: Query
    truncated: bool = False
    request_id: str = ""
    timings_ms: dict[str, float] = {}
    warnings: list[str] = []


S = TypeVar("S", bound=Stage)


def named(reply: S, request_id: str) -> S:
    """The reply with the identifier of its request."""
    return msgspec.structs.replace(reply, request_id=request_id)


class Encoded(Stage, frozen=True, kw_only=True):
    """The query as each retriever represents it."""

    retrievers: Retrievers
    codes: Annotated[list[QueryCode], Meta(max_length=MAX_RETRIEVERS)]


class RetrieveRequest(Encoded, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An encoded query, and how many documents each retriever shall find at least."""

    limit: Limit = 10
    filter: Filter | None = None
    timeout_ms: TimeoutMs = None


class Found(msgspec.Struct, frozen=True):
    """A document that one retriever found, by its best passage's row."""

    id: str
    row: Row
    score: Annotated[float, Meta(ge=-1e12, le=1e12)]


class RetrieverRanking(msgspec.Struct, frozen=True):
    """One retriever's documents, best first."""

    name: Name
    found: Annotated[list[Found], Meta(max_length=MAX_LIMIT)]


class Retrieved(Encoded, frozen=True, kw_only=True):
    """A ranking for each retriever."""

    rankings: Annotated[list[RetrieverRanking], Meta(max_length=MAX_RETRIEVERS)]


class FuseRequest(Retrieved, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rankings, and how they become one."""

    limit: Limit = 10
    fusion: Fusion = Fusion()
    timeout_ms: TimeoutMs = None


class Fused(Encoded, frozen=True, kw_only=True):
    """Hits as a search returns them, with the row of each."""

    hits: Annotated[list[Hit], Meta(max_length=MAX_LIMIT)]
    rows: Annotated[list[Row], Meta(max_length=MAX_LIMIT)]


class LocateRequest(Fused, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hits, how strong one must be to stand as evidence, and what to point at in those that are.

    With `point` the sentences become the highlights of the evidence.
    """

    min_evidence: Annotated[float, Meta(ge=0, le=1)] | None = None
    point: Pointing | None = None
    timeout_ms: TimeoutMs = None


class Located(Stage, frozen=True, kw_only=True):
    """The hits that are evidence; `strengths` are of all hits that were weighed, in their order.

    `located` are the sentences of the evidence that answer the likeliest, where they were asked
    for.
    """

    evidence: list[Hit]
    strengths: list[float]
    located: list[LocatedHit] = []


class ShownHit(msgspec.Struct, frozen=True):
    """`text[start:end]` of the compressed text is what is left of the hit `id`."""

    id: str
    start: Annotated[int, Meta(ge=0)]
    end: Annotated[int, Meta(ge=0)]


class ShownText(msgspec.Struct, frozen=True):
    """What compression left of the evidence, hit by hit; other fields of its reply are ignored."""

    text: str
    hits: Annotated[list[ShownHit], Meta(max_length=MAX_LIMIT)]


class GroundedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question, its evidence and, where that was compressed, what the model shall read of it."""

    question: str
    evidence: list[Hit]
    shown: ShownText | None = None
    decode: Decode = Decode()
    timeout_ms: TimeoutMs = None


class GroundedResponse(GenerateResponse, frozen=True):
    """What was written, and how. With evidence, `citations` point from the text into it."""

    citations: list[Citation] = msgspec.field(default_factory=list)
    truncated: bool = False
