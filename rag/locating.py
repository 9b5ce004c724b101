"""Pointing at sentences: what can be asked of it and what comes back, for REST, CLI and Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from rag.search import Highlight, Hit

if TYPE_CHECKING:
    from rag.gear.locator import Locator

MAX_SENTENCES = 20
MAX_MAPPED_TOKENS = 4096
"""An attention map is made of hits up to this long."""


class Pointing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to point at: so many sentences a hit.

    With `write` the model also says what the hit says about the question, with `attention` which
    words of the question look at which words of the hit.
    """

    sentences: Annotated[int, Meta(ge=0, le=MAX_SENTENCES)] = 1
    write: bool = False
    attention: bool = False


class LocatedSpan(msgspec.Struct, frozen=True):
    """A sentence, `text[start:end]` of the hit in code points; `score` is its share of all."""

    start: int
    end: int
    score: float


class Place(msgspec.Struct, frozen=True):
    """A word: [start, end) in code points."""

    start: int
    end: int


class AttentionMap(msgspec.Struct, frozen=True):
    """`weights[i][j]` is what word i of the question takes of word j of the hit's text.

    A row sums to at most 1: the rest looks at the title and at special tokens.
    """

    question: list[Place]
    text: list[Place]
    weights: list[list[float]]


class LocatedHit(msgspec.Struct, frozen=True):
    """The hit `id`: its sentences that answer the likeliest, best first.

    `answer` and `sentence` are written by the model, held to stretches of the hit.
    """

    id: str
    spans: list[LocatedSpan]
    answer: str | None = None
    sentence: str | None = None
    attention: AttentionMap | None = None


def point(
    locator: Locator, question: str, hits: Sequence[Hit], asked: Pointing
) -> list[LocatedHit]:
    """The sentences of each hit, from one pass over all of them."""
    from rag.gear.attention_map import word_attention
    from rag.gear.writer import Writer

    documents = [(hit.title, hit.text) for hit in hits]
    writer = Writer(locator)
    found = []
    for hit, document, sentences in zip(
        hits, documents, locator.locate(question, documents), strict=True
    ):
        spans = [LocatedSpan(*one) for one in sentences[: asked.sentences]]
        one = LocatedHit(hit.id, spans)
        if asked.write:
            one = msgspec.structs.replace(
                one,
                answer=writer.answer(question, document).text,
                sentence=writer.sentence(question, document).text,
            )
        if asked.attention:
            words = word_attention(locator, question, document, MAX_MAPPED_TOKENS)
            mapped = AttentionMap(
                [Place(*word) for word in words.question],
                [Place(*word) for word in words.text],
                words.weights,
            )
            one = msgspec.structs.replace(one, attention=mapped)
        found.append(one)
    return found


def highlighted(hits: Sequence[Hit], located: Sequence[LocatedHit]) -> list[Hit]:
    """The hits with the located sentences, in the order of the text, for highlights."""
    return [
        msgspec.structs.replace(
            hit,
            highlights=[
                Highlight("text", span.start, span.end, "sentence")
                for span in sorted(one.spans, key=lambda span: span.start)
            ],
        )
        for hit, one in zip(hits, located, strict=True)
    ]
