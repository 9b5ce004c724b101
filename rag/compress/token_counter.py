"""The generator's tokens, counted without loading the generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import regex

from rag.retrievers.model_tokens import load_tokenizer

_SURROGATE = regex.compile(r"\p{Cs}")


class TokenCounter(Protocol):
    """Anything that encodes a text as the generator does; its own tokenizer for one."""

    def encode(self, text: str) -> Sequence[int]:
        """Ids of `text` with no special token added and none recognised inside it."""


class FolderTokens:
    """Owns the tokenizer of a model folder. Raises `ModelError` where there is none."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = load_tokenizer(folder)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True

    def encode(self, text: str) -> Sequence[int]:
        """Ids of the text; lone surrogates count as U+FFFD."""
        clean = _SURROGATE.sub("\ufffd", text)
        ids: list[int] = self._tokenizer.encode(clean, add_special_tokens=False).ids
        return ids
