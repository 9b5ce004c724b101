"""Compression as a stage: alone, and between search and generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from indexes.errors import InvalidInput
from rag.compress.compression import (
    CompressedHit,
    Compression,
    CompressRequest,
    CompressResponse,
    KeptSpan,
    Passage,
    WordScore,
)
from rag.compress.compressor import Compressed, Compressor, Priorities
from rag.compress.token_counter import TokenCounter
from rag.compress.words import Span
from rag.search import Hit, pointed_at
from rag.stopwatch import Stopwatch

PARTED = "\n\n"


class Shown(NamedTuple):
    """What the model reads of the evidence: the hits with shortened texts, none of them empty."""

    evidence: list[Hit]
    warnings: list[str]


def shorten(
    compressor: Compressor,
    question: str,
    evidence: Sequence[Hit],
    options: Compression,
    tokenizer: TokenCounter,
) -> Shown:
    """The evidence for the prompt; citations go on to be made from the evidence itself.

    The sentences that a model pointed at are kept.
    """
    passages = [Passage(hit.text, hit.id, hit.title, hit.score) for hit in evidence]
    pointed = [
        (number, Span(*place)) for number, hit in enumerate(evidence) for place in pointed_at(hit)
    ]
    found = compressor.compress(passages, question, options, tokenizer, pointed)
    hits = [
        msgspec.structs.replace(hit, text=kept.text.text)
        for hit, kept in zip(evidence, found.texts, strict=True)
        if kept.text.text or (hit.title and not hit.text)
    ]
    return Shown(hits, found.warnings)


def compress_request(
    compressor: Compressor,
    request: CompressRequest,
    tokenizer: TokenCounter,
    watch: Stopwatch,
    *,
    request_id: str = "",
) -> CompressResponse:
    """Compress what a request holds.

    Raises `InvalidInput` when both a text and hits are given, or a protected place is not there.
    """
    if request.text and request.hits:
        raise InvalidInput("give a text or hits, not both", "/hits")
    passages = request.hits or [Passage(request.text)]
    with watch.stage("compress"):
        found = compressor.compress(
            passages, request.query, request, tokenizer, _protected(request, passages)
        )
    return _response(passages, found, request, watch, request_id)


def _protected(request: CompressRequest, passages: Sequence[Passage]) -> list[tuple[int, Span]]:
    places = []
    for number, one in enumerate(request.protected):
        if one.hit >= len(passages) or not one.start <= one.end <= len(passages[one.hit].text):
            raise InvalidInput("this place is not in the text", f"/protected/{number}")
        places.append((one.hit, Span(one.start, one.end)))
    return places


def _response(
    passages: Sequence[Passage],
    found: Compressed,
    request: CompressRequest,
    watch: Stopwatch,
    request_id: str,
) -> CompressResponse:
    pieces: list[str] = []
    spans: list[KeptSpan] = []
    hits: list[CompressedHit] = []
    at = 0
    for number, (passage, kept) in enumerate(zip(passages, found.texts, strict=True)):
        if pieces and kept.text.text:
            pieces.append(PARTED)
            at += len(PARTED)
        spans += [
            KeptSpan(at + one.start, at + one.end, one.source_start, one.source_end, number)
            for one in kept.text.stretches
        ]
        end = at + len(kept.text.text)
        hits.append(CompressedHit(passage.id, at, end, kept.original_tokens, kept.kept_tokens))
        if kept.text.text:
            pieces.append(kept.text.text)
        at = end
    original = sum(one.original_tokens for one in found.texts)
    left = sum(one.kept_tokens for one in found.texts)
    return CompressResponse(
        request_id=request_id,
        text="".join(pieces),
        ratio=_ratio(original, left),
        spans=spans,
        hits=hits,
        original_tokens=original,
        kept_tokens=left,
        dropped_tokens=original - left,
        by=found.by,
        words=_words(found) if request.explain else [],
        timings_ms=watch.total(),
        warnings=found.warnings,
    )


def _ratio(original: int, left: int) -> float | None:
    if original == left:
        return 1.0
    return round(original / left, 4) if left else None


def _words(found: Compressed) -> list[WordScore]:
    weighed = found.weighed
    n_words = len(weighed.words)
    preserve, relevance = _values(weighed.preserve, n_words), _values(weighed.relevance, n_words)
    return [
        WordScore(word.start, word.end, bool(found.kept[n]), preserve[n], relevance[n], hit)
        for n, (word, hit) in enumerate(zip(weighed.words, weighed.hits.tolist(), strict=True))
    ]


def _values(column: Priorities | None, n: int) -> list[float | None]:
    return [None] * n if column is None else [round(value, 6) for value in column.tolist()]
