"""The part of a long context that RAPID's drafter reads: what shares most with the question."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from indexes.sentences import sentence_spans
from rag.generate.alignment import split_words
from rag.search import Hit

SHARE = 0.25
"""The drafter reads at most this part of what the target reads: lambda = 4. RAPID has 24 for
contexts of 128K tokens; those of the models here are 8K to 32K."""

MIN_CHARS = 400
"""It may always read this much."""

CHUNK_CHARS = 800
"""Sentences of a plain text are put together up to this length."""


def best_chunks(question: str, chunks: Sequence[str], max_chars: int) -> list[int]:
    """Which chunks to read, in their order: the best until `max_chars` are full, at least one.

    A chunk is worth the idf, over the chunks, of the question's words that it has; of equally good
    ones the first.
    """
    asked = {word.form for word in split_words(question) if not word.is_common}
    found = [{word.form for word in split_words(chunk)} & asked for chunk in chunks]
    n_with = Counter(form for forms in found for form in forms)
    idf = {form: math.log(1 + len(chunks) / n) for form, n in n_with.items()}
    worth = [math.fsum(idf[form] for form in sorted(forms)) for forms in found]
    chosen: list[int] = []
    for chunk in sorted(range(len(chunks)), key=lambda n: (-worth[n], n)):
        if chosen and (worth[chunk] == 0 or len(chunks[chunk]) > max_chars):
            break
        chosen.append(chunk)
        max_chars -= len(chunks[chunk])
    return sorted(chosen)


def short_evidence(question: str, evidence: Sequence[Hit]) -> list[Hit]:
    """The best sentences of the hits; hits without any are left out."""
    places = [
        (hit, start, end)
        for hit in evidence
        for start, end in sentence_spans(hit.text) or [(0, len(hit.text))]
    ]
    texts = [hit.text[start:end] for hit, start, end in places]
    chosen = best_chunks(question, texts, _max_chars(sum(map(len, texts))))
    kept: dict[str, list[str]] = {}
    for at in chosen:
        kept.setdefault(places[at][0].id, []).append(texts[at].strip())
    return [
        msgspec.structs.replace(hit, text=" ".join(kept[hit.id]))
        for hit in evidence
        if hit.id in kept
    ]


def short_text(question: str, text: str) -> str:
    """The best stretches of a long text, in its order, with blank lines between."""
    chunks = _chunks(text)
    chosen = best_chunks(question, chunks, _max_chars(len(text)))
    return "\n\n".join(chunks[at].strip() for at in chosen)


def _chunks(text: str) -> list[str]:
    """Whole sentences, as many as make up `CHUNK_CHARS`."""
    chunks: list[str] = []
    begun: int | None = None
    for start, end in sentence_spans(text):
        if begun is not None and end - begun <= CHUNK_CHARS:
            chunks[-1] = text[begun:end]
        else:
            begun = start
            chunks.append(text[start:end])
    return chunks or [text]


def _max_chars(n_chars: int) -> int:
    return max(MIN_CHARS, int(SHARE * n_chars))
