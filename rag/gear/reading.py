"""Texts as the model reads them: windows of tokens, each token with its sentence and its place."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Encoding, Tokenizer

from indexes.errors import ModelError
from indexes.sentences import sentence_spans

NOBODY = -1
"""The owner of tokens that are of no sentence: special ones and the title's."""

_SURROGATES = re.compile("[\ud800-\udfff]")

TITLE_SHARE = 4
"""A title takes at most one part in so many of a window."""


class Window(NamedTuple):
    """Token ids, special ones included; each token's sentence; its place in the text."""

    ids: list[int]
    owners: list[int]
    places: list[tuple[int, int]]


class ReadText(NamedTuple):
    """A text's sentences, [start, end) in code points, and the windows it is read in."""

    sentences: list[tuple[int, int]]
    windows: list[Window]


class ReadDocument(NamedTuple):
    """A document's sentences, its token states `[N, d]`, and each token's id, sentence and place.

    A document longer than the encoder has its windows here one after the other.
    """

    sentences: list[tuple[int, int]]
    ids: list[int]
    states: torch.Tensor
    owners: list[int]
    places: list[tuple[int, int]]


class ReadQuestion(NamedTuple):
    """Token ids, special ones included; places in the text, (0, 0) for special tokens."""

    ids: list[int]
    places: list[tuple[int, int]]
    truncated: bool


class GearTokens:
    """Owns a tokenizer. Reading is safe for threads."""

    def __init__(self, folder: Path) -> None:
        try:
            # Owned here: a model's own tokenizer is shared state that padding would change.
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder.name}: its tokenizer cannot be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.first = self._special("[CLS]")
        self.last = self._special("[SEP]")
        self.pad = self._special("[PAD]")
        self.answer_mark = self._special("[unused1]")
        self.sentence_mark = self._special("[unused2]")

    def question(self, text: str, max_tokens: int) -> ReadQuestion:
        """A question; what is too long for the model is cut off."""
        found = self._encoded(text)
        room = max_tokens - 2
        ids = [self.first, *found.ids[:room], self.last]
        places = [(0, 0), *found.offsets[:room], (0, 0)]
        return ReadQuestion(ids, places, len(found.ids) > room)

    def ids(self, text: str) -> list[int]:
        """Plain token ids."""
        found: list[int] = self._encoded(text).ids
        return found

    def text(self, ids: Sequence[int]) -> str:
        """Words of token ids, special ones left out."""
        found: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return found

    def read(
        self,
        title: str,
        text: str,
        max_tokens: int,
        sentences: list[tuple[int, int]] | None = None,
    ) -> ReadText:
        """A document in windows of at most `max_tokens`, cut between sentences where that goes.

        Each window begins with the title, as retrieval reads it. `sentences` are found unless
        given. A text without tokens has one window without any of its own.
        """
        (found,) = self._encoded_all([text])
        return self._windows(title, text, found, max_tokens, sentences)

    def read_all(self, documents: Sequence[tuple[str, str]], max_tokens: int) -> list[ReadText]:
        """As `read`, of several (title, text), mostly without Python's lock."""
        found = self._encoded_all([text for _, text in documents])
        return [
            self._windows(title, text, one, max_tokens)
            for (title, text), one in zip(documents, found, strict=True)
        ]

    def _windows(
        self,
        title: str,
        text: str,
        found: Encoding,
        max_tokens: int,
        sentences: list[tuple[int, int]] | None = None,
    ) -> ReadText:
        if sentences is None:
            sentences = sentence_spans(text)
        lead = self.ids(title)[: max_tokens // TITLE_SHARE] if title else []
        ids, offsets = found.ids, found.offsets
        starts = [start for start, _ in sentences]
        owners = [bisect_right(starts, start) - 1 for start, _ in offsets]
        windows = []
        for first, last in _cuts(owners, max_tokens - 2 - len(lead)):
            before, blank = len(lead) + 1, [(0, 0)]
            windows.append(
                Window(
                    [self.first, *lead, *ids[first:last], self.last],
                    [NOBODY] * before + owners[first:last] + [NOBODY],
                    blank * before + offsets[first:last] + blank,
                )
            )
        return ReadText(sentences, windows)

    def _encoded_all(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokens and their places; a lone surrogate, which UTF-8 cannot hold, counts as U+FFFD."""
        readable = [_SURROGATES.sub("\ufffd", text) for text in texts]
        found: list[Encoding] = self._tokenizer.encode_batch(readable, add_special_tokens=False)
        return found

    def _encoded(self, text: str) -> Encoding:
        """As `_encoded_all`, of a short text."""
        return self._tokenizer.encode(_SURROGATES.sub("\ufffd", text), add_special_tokens=False)

    def _special(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ModelError(f"the tokenizer has no token {token}")
        return int(found)


def _cuts(owners: Sequence[int], room: int) -> list[tuple[int, int]]:
    """[first, last) of windows of at most `room` tokens: whole sentences while they fit."""
    cuts = []
    first = 0
    while first < len(owners):
        last = min(first + room, len(owners))
        if last < len(owners):
            cut = last
            while cut > first and owners[cut] == owners[cut - 1]:
                cut -= 1
            last = cut if cut > first else last
        cuts.append((first, last))
        first = last
    return cuts or [(0, 0)]
