"""Which terms a learned sparse retriever added to a query or a passage, and which word raised them.

An index keeps a passage's weights, not where they came from: the passages of the hits shown are
encoded once more, and the position that the pooling took each term from is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from rag.ranking import RankedQuery
from rag.retrievers.retriever import Explaining, Retriever, TermSource, passage_input
from rag.search import Expansion, Hit, SearchResponse

MAX_EXPANSION = 64
"""Terms shown of one text and retriever."""


def explained(
    response: SearchResponse,
    query: str,
    ranked: RankedQuery,
    retrievers: Mapping[str, Retriever],
) -> SearchResponse:
    """The response with the expansion of its query and of each hit's passage.

    `ranked` holds what was searched by. A hit's expansion is told for the retrievers that found it.
    """
    speaking = {
        name: retriever
        for name, retriever in retrievers.items()
        if isinstance(retriever, Explaining)
        and (searched := ranked.searched.get(name)) is not None
        and searched.sparse is not None
    }
    matched = {term.term for hit in response.hits for term in hit.matched_terms}
    of_query: list[Expansion] = []
    for name, retriever in speaking.items():
        added = [s for s in retriever.query_sources(query) if not s.literal]
        found = [_of_query(name, source, query, source.term in matched) for source in added]
        of_query += _first(found)
    return msgspec.structs.replace(
        response,
        expansion=of_query,
        hits=[_explained_hit(hit, ranked, speaking) for hit in response.hits],
    )


def _explained_hit(hit: Hit, ranked: RankedQuery, speaking: Mapping[str, Explaining]) -> Hit:
    shown: list[Expansion] = []
    for name, retriever in speaking.items():
        vector = ranked.searched[name].sparse
        if name not in hit.scores or vector is None:
            continue
        asked = frozenset(vector.terms)
        sources = retriever.passage_sources(passage_input(hit.title, hit.text))
        found = [_of_hit(name, s, hit, s.term in asked) for s in sources if not s.literal]
        shown += _first(found)
    return msgspec.structs.replace(hit, expansion=shown)


def _of_query(name: str, source: TermSource, query: str, matched: bool) -> Expansion:
    return Expansion(
        retriever=name,
        term=source.term,
        weight=source.weight,
        matched=matched,
        field="query",
        source=query[source.start : source.end],
        start=source.start,
        end=source.end,
    )


def _of_hit(name: str, source: TermSource, hit: Hit, matched: bool) -> Expansion:
    field, start, end = field_span(hit.title, hit.text, source.start, source.end)
    return Expansion(
        retriever=name,
        term=source.term,
        weight=source.weight,
        matched=matched,
        field=field,
        source=(hit.title if field == "title" else hit.text)[start:end],
        start=start,
        end=end,
    )


def field_span(
    title: str, text: str, start: int, end: int
) -> tuple[Literal["title", "text"], int, int]:
    """A stretch of `passage_input(title, text)` as one of the title or of the text.

    One that reaches over both is cut to the part in the title.
    """
    joined = f"{title} {text}"
    stripped = len(joined) - len(joined.lstrip())
    start, end = start + stripped, end + stripped
    if start < len(title):
        return "title", start, min(end, len(title))
    before = len(title) + 1
    return "text", max(0, start - before), max(0, end - before)


def _first(found: Sequence[Expansion]) -> list[Expansion]:
    """Matched terms first, then the heaviest."""
    return sorted(found, key=lambda term: (not term.matched, -term.weight))[:MAX_EXPANSION]
