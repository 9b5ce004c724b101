"""Candidates → hits: texts, highlights and, on request, the terms that matched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from indexes.analyzer import Analyzer
from indexes.document import Passage
from indexes.snapshot import Snapshot
from rag.fusion import Candidate
from rag.ranking import RankedQuery
from rag.search import Highlight, Hit, MatchedTerm, SearchRequest


def hits_of(snapshot: Snapshot, request: SearchRequest, ranked: RankedQuery) -> list[Hit]:
    """The requested page of hits."""
    page = ranked.candidates[request.offset : request.offset + request.limit]
    passages = snapshot.fetch([candidate.row for candidate in page])
    terms = frozenset(snapshot.analyzer.terms(request.query))
    matched = _matched(snapshot, ranked, page) if request.explain else [[] for _ in page]
    return [
        msgspec.structs.replace(
            _hit(candidate, passage, snapshot.analyzer, terms),
            rank=request.offset + place,
            matched_terms=explained,
        )
        for place, (candidate, passage, explained) in enumerate(
            zip(page, passages, matched, strict=True), start=1
        )
    ]


def _hit(candidate: Candidate, passage: Passage, analyzer: Analyzer, terms: frozenset[str]) -> Hit:
    highlights = [
        *highlights_of(analyzer, terms, "title", passage.title),
        *highlights_of(analyzer, terms, "text", passage.text),
    ]
    return Hit(
        id=passage.document_id,
        rank=0,
        score=candidate.score,
        scores=candidate.scores,
        title=passage.title,
        text=passage.text,
        start=passage.start,
        metadata=passage.metadata,
        highlights=highlights,
    )


def highlights_of(
    analyzer: Analyzer, terms: frozenset[str], field: Literal["title", "text"], text: str
) -> Iterable[Highlight]:
    """Stretches of a field whose terms are among the query's; touching ones are joined."""
    joined: list[Highlight] = []
    if not terms:
        return joined
    for token in analyzer.places(text, terms):
        if joined and token.start <= joined[-1].end:
            end = max(joined[-1].end, token.end)
            joined[-1] = msgspec.structs.replace(joined[-1], end=end)
        else:
            joined.append(Highlight(field, token.start, token.end))
    return joined


def _matched(
    snapshot: Snapshot, ranked: RankedQuery, page: Sequence[Candidate]
) -> list[list[MatchedTerm]]:
    """Each hit's matched terms over all sparse retrievers, the largest share first."""
    rows = [candidate.row for candidate in page]
    found: list[list[MatchedTerm]] = [[] for _ in page]
    for name, vector in ranked.searched.items():
        if vector.sparse is None:
            continue
        for place, terms in enumerate(snapshot.matched(name, vector, rows)):
            found[place] += [
                MatchedTerm(name, term, weight, held, weight * held) for term, weight, held in terms
            ]
    return [sorted(terms, key=lambda term: -term.product) for terms in found]
