"""A token classifier's own tokenizer: token ids, their places, and which of them begin a word.

LLMLingua-2 scores words, not tokens. What a word is follows from how the tokenizer marks
continuations, as in the reference: `##` for WordPiece (BERT), a missing `▁` for XLM-R, where
punctuation is a word of its own. Scripts without spaces get a word a token in XLM-R too; the
reference takes a whole clause of them for one word.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import regex
from numpy.typing import NDArray

from indexes.scripts import UNSPACED
from rag.retrievers.model_tokens import load_tokenizer

_SPACED_LETTER = regex.compile(rf"[{UNSPACED}--\p{{Hangul}}]", regex.VERSION1)
_SURROGATE = regex.compile(r"\p{Cs}")

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class TextTokens(NamedTuple):
    """A text's tokens: ids `[n]`, where they begin and end `[n]`, and whether each begins a word.

    Words are whole: the first token begins one, and none begins before the last one's end.
    """

    ids: Ints
    starts: Ints
    ends: Ints
    begins: Flags


class Frame(NamedTuple):
    """Ids that the model wants around a text: before, between question and text, and after.

    `question_type` and `text_type` are the segment numbers, where the model has them.
    """

    before: list[int]
    between: list[int]
    after: list[int]
    question_type: int
    text_type: int


class ClassifierTokens:
    """Owns a tokenizer without truncation that takes special tokens in a text for text."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = load_tokenizer(folder)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # The frames first: once special tokens are text, the tokenizer still adds its own.
        self.frame = _frame(self._tokenizer, pair=False)
        self.pair_frame = _frame(self._tokenizer, pair=True)
        self._tokenizer.encode_special_tokens = True
        self._begins = _word_beginnings(self._tokenizer)
        self._space = self._tokenizer.token_to_id("▁")
        self._is_marked = _has_continuations(self._tokenizer)

    def read(self, texts: Sequence[str]) -> list[TextTokens]:
        """The texts' tokens, without the model's special ones."""
        clean = [_SURROGATE.sub("\ufffd", text) for text in texts]
        found = self._tokenizer.encode_batch(clean, add_special_tokens=False)
        return [self._tokens(text, one) for text, one in zip(clean, found, strict=True)]

    def ids(self, text: str) -> list[int]:
        """Token ids of a text alone."""
        clean = _SURROGATE.sub("\ufffd", text)
        ids: list[int] = self._tokenizer.encode(clean, add_special_tokens=False).ids
        return ids

    def _tokens(self, text: str, encoding: Any) -> TextTokens:
        ids = np.array(encoding.ids, dtype=np.int64)
        places = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        starts, ends = places[:, 0], places[:, 1]
        begins = self._begins[ids]
        if len(ids):
            if not self._is_marked:
                spaced = _after_space(text, starts)
                # XLM-R may write the space as a token of its own: it is part of the next word.
                spaced[1:] &= ids[:-1] != self._space
                begins = begins | spaced
            # Bytes of one character are several tokens at one place: never two words.
            begins[1:] &= starts[1:] >= np.maximum.accumulate(ends)[:-1]
            begins[0] = True
        return TextTokens(ids, starts, ends, begins)


def _frame(tokenizer: Any, *, pair: bool) -> Frame:
    """What the tokenizer puts around a text, or around a pair of them."""
    body = tokenizer.encode("a", add_special_tokens=False).ids
    encoding = tokenizer.encode("a", "a") if pair else tokenizer.encode("a")
    ids, size = encoding.ids, len(body)
    first = _find(ids, body, 0)
    if not pair:
        return Frame(ids[:first], [], ids[first + size :], 0, encoding.type_ids[first])
    second = _find(ids, body, first + size)
    return Frame(
        before=ids[:first],
        between=ids[first + size : second],
        after=ids[second + size :],
        question_type=encoding.type_ids[first],
        text_type=encoding.type_ids[second],
    )


def _find(ids: Sequence[int], body: Sequence[int], at: int) -> int:
    return next(place for place in range(at, len(ids)) if list(ids[place:][: len(body)]) == body)


def _has_continuations(tokenizer: Any) -> bool:
    """Whether continuing tokens carry a mark, so that words are known from tokens alone."""
    return bool(getattr(tokenizer.model, "continuing_subword_prefix", None))


def _word_beginnings(tokenizer: Any) -> Flags:
    """For each of V tokens whether it begins a word whatever stands before it: bool `[V]`."""
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    begins = np.zeros(max(vocabulary.values(), default=0) + 1, dtype=bool)
    prefix = getattr(tokenizer.model, "continuing_subword_prefix", None)
    for token, number in vocabulary.items():
        if prefix:
            begins[number] = not token.startswith(prefix)
        else:
            begins[number] = token in string.punctuation or bool(_SPACED_LETTER.match(token))
    return begins


def _after_space(text: str, starts: Ints) -> Flags:
    """Whether each token stands at the beginning, at white space or right after it."""
    spaces = np.fromiter((ch.isspace() for ch in text), dtype=bool, count=len(text))
    before = np.concatenate([[True], spaces])
    at = np.concatenate([spaces, [False]])
    flags: Flags = before[starts] | at[starts]
    return flags
