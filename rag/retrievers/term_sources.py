"""Which word of a text gave a term its weight: what retrievers that explain themselves share."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from indexes.representation import Floats, Rows
from rag.retrievers.model_tokens import TokenizedText
from rag.retrievers.retriever import TermSource


def own_tokens(text: TokenizedText) -> list[int]:
    """The text's own tokens, without special ones."""
    return [token for token, special in zip(text.ids, text.special, strict=True) if not special]


def sourced(
    vocabulary: Sequence[str],
    read: TokenizedText,
    ids: Rows,
    weights: Floats,
    places: Sequence[tuple[int, int]],
) -> list[TermSource]:
    """Terms, by their ids, weights and places in the text, as what is told of them."""
    literal = set(own_tokens(read))
    return [
        TermSource(vocabulary[token], weight, token in literal, *place)
        for token, weight, place in zip(ids.tolist(), weights.tolist(), places, strict=True)
    ]


def shifted(found: Sequence[TermSource], n_chars: int) -> list[TermSource]:
    """Places in the text alone, for places in the prompted text; the prompt's own words are none.

    `n_chars` is the length of the prompt.
    """
    return [
        msgspec.structs.replace(
            source, start=max(0, source.start - n_chars), end=max(0, source.end - n_chars)
        )
        for source in found
    ]
