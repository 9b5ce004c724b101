"""The search request and what comes back: the schema of `/v1/search`, of the CLI and of Python."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from indexes.filters import Filter

MAX_QUERY_CHARS = 200_000
MAX_LIMIT = 1_000

Query = Annotated[str, Meta(max_length=MAX_QUERY_CHARS)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$(?!\n)")]
Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]


class RetrieverChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One retriever of the index: how many candidates it gives and how much it weighs in fusion.

    Of a retriever that represents texts in two ways, `part` searches by one of them alone, and
    `dense_weight` says how many times the dense one counts that is added to the sparse one.
    """

    name: Name
    limit: Limit = 100
    weight: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    part: Literal["both", "sparse", "dense"] = "both"
    dense_weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0


class Fusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How rankings become one: by scaled scores (`weighted`, `from_zero`) or by ranks (`rrf`).

    `weighted` scales between the worst and the best score of a ranking, `from_zero` between 0 and
    the best, for candidates that one retriever has chosen.
    """

    method: Literal["rrf", "weighted", "from_zero"] = "weighted"
    k: Annotated[int, Meta(ge=1, le=10_000)] = 60


class SearchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to search for. No `retrievers` means all that the index has.

    What is highlighted of a hit: the query's terms, or the sentence that answers the likeliest.
    """

    index: Name
    query: Query
    limit: Limit = 10
    offset: Annotated[int, Meta(ge=0, le=MAX_LIMIT)] = 0
    retrievers: Annotated[list[RetrieverChoice], Meta(max_length=16)] = []
    fusion: Fusion = Fusion()
    filter: Filter | None = None
    highlight: Literal["terms", "sentences"] = "terms"
    explain: bool = False
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] | None = None


class StageScore(msgspec.Struct, frozen=True):
    """Where one stage put a hit: its 1-based rank and its raw score."""

    rank: int
    score: float


class MatchedTerm(msgspec.Struct, frozen=True):
    """One term's share of a retriever's sparse score: `product = query_weight * doc_weight`."""

    retriever: str
    term: str
    query_weight: float
    doc_weight: float
    product: float


class Highlight(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stretch of the hit's `field`, in code points: a term of the query, or a sentence.

    A sentence that a model pointed at is spared by compression, and cited before others that
    support an answer as well.
    """

    field: Literal["title", "text"]
    start: int
    end: int
    kind: Literal["term", "sentence"] = "term"


class Expansion(msgspec.Struct, frozen=True):
    """A term that a sparse retriever added: it is in the vector, not in the text.

    `source` is the word that raised its weight: `field[start:end]`, in code points; it is empty
    where no word but a special token did. `matched` where the other side has the term too.
    """

    retriever: str
    term: str
    weight: float
    matched: bool
    field: Literal["query", "title", "text"]
    source: str
    start: int
    end: int


class Hit(msgspec.Struct, frozen=True):
    """A document found, shown by its best passage.

    `text` is the passage; it begins at code point `start` of the document's text. `expansion` are
    the terms that learned sparse retrievers added to the passage, on request: those that matched
    the query first, then the heaviest.
    """

    id: str
    rank: int
    score: float
    scores: dict[str, StageScore]
    title: str
    text: str
    start: int = 0
    metadata: dict[str, Any] = {}
    matched_terms: list[MatchedTerm] = []
    highlights: list[Highlight] = []
    expansion: list[Expansion] = []


def pointed_at(hit: Hit) -> list[tuple[int, int]]:
    """The sentences of the hit's text that a model pointed at, [start, end)."""
    return [(one.start, one.end) for one in hit.highlights if one.kind == "sentence"]


class SearchResponse(msgspec.Struct, frozen=True):
    """Ranked evidence, and what it was found in.

    `expansion` are the terms that learned sparse retrievers added to the query, on request.
    """

    request_id: str
    index: str
    index_version: int
    hits: list[Hit]
    timings_ms: dict[str, float]
    truncated: bool = False
    warnings: list[str] = []
    expansion: list[Expansion] = []
