"""Which words of the question look at which words of the document."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from indexes.errors import InvalidInput
from rag.compress.words import Span, plain_words
from rag.gear.locator import Locator


class WordAttention(NamedTuple):
    """Words of the question, words of the text, and `weights[i][j]` between them."""

    question: list[Span]
    text: list[Span]
    weights: list[list[float]]


def word_attention(
    locator: Locator, question: str, document: tuple[str, str], max_tokens: int
) -> WordAttention:
    """The attention of the layers that locate, mean over heads.

    A word of the question has the mean of its tokens, a word of the text the sum of its. Raises
    `InvalidInput` for a document (title, text) of more than `max_tokens`.
    """
    asked = locator.tokens.question(question, locator.shape.max_question_tokens)
    with torch.inference_mode():
        (read,) = locator.read([document])
        if len(read.ids) > max_tokens:
            raise InvalidInput(f"an attention map is made of at most {max_tokens} tokens")
        attention = locator.fuse(asked, [read]).attention
    chosen = [attention[layer - 1][0].mean(0) for layer in locator.shape.locate_layers]
    looked = torch.stack(chosen).mean(0).cpu().numpy()
    words, places = plain_words(question), plain_words(document[1])
    rows = _word_of(words, asked.places)
    columns = _word_of(places, read.places)
    by_row = np.zeros((len(words), looked.shape[1]))
    counts = np.zeros(len(words))
    for row, word in enumerate(rows):
        if word is not None:
            by_row[word] += looked[row]
            counts[word] += 1
    by_row /= np.maximum(counts, 1)[:, None]
    weights = np.zeros((len(words), len(places)))
    for column, word in enumerate(columns):
        if word is not None:
            weights[:, word] += by_row[:, column]
    return WordAttention(words, places, weights.round(6).tolist())


def _word_of(words: Sequence[Span], tokens: Sequence[tuple[int, int]]) -> list[int | None]:
    """Of each token the word that it begins in; None for special tokens."""
    starts = [word.start for word in words]
    found: list[int | None] = []
    for start, end in tokens:
        number = bisect_right(starts, start) - 1
        there = start < end and number >= 0 and start < words[number].end
        found.append(number if there else None)
    return found
