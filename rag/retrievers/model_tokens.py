"""A model's own tokeniser: ids to feed, code point spans to point back with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from indexes.errors import ModelError
from rag.models.torch_runtime import quiet_transformers


class TokenizedText(msgspec.Struct, frozen=True):
    """A text as its model reads it: `ids`, and whether it was cut short.

    `places[i]` is where id i stands in the text, [start, end) of the whole word it is part of,
    (0, 0) for a special token. They are there only where they were asked for.
    """

    ids: list[int]
    truncated: bool
    special: list[bool]
    places: list[tuple[int, int]] = []


class ModelTokenizer:
    """Owns a tokeniser that nobody else pads or truncates. Safe for threads."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        self._tokenizer = load_tokenizer(folder)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self.max_tokens = max_tokens

    def tokens(self, n_terms: int) -> list[str]:
        """What each of V vocabulary rows is called; rows beyond the tokeniser's get a name too."""
        named = [self._tokenizer.id_to_token(number) for number in range(n_terms)]
        return [f"[spare {number}]" if name is None else name for number, name in enumerate(named)]

    def read(self, texts: Sequence[str]) -> list[TokenizedText]:
        """The texts' tokens between the model's special tokens."""
        found = self._tokenizer.encode_batch_fast(list(texts))
        return [_tokenized(encoding) for encoding in found]

    def read_places(self, text: str) -> TokenizedText:
        """The same with the places."""
        encoding = self._tokenizer.encode(text)
        words: dict[int, tuple[int, int]] = {}
        for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
            if word is not None:
                first, last = words.get(word, (start, end))
                words[word] = (min(first, start), max(last, end))
        places = [
            (0, 0) if word is None else _place(text, own, words[word])
            for word, own in zip(encoding.word_ids, encoding.offsets, strict=True)
        ]
        return msgspec.structs.replace(_tokenized(encoding), places=places)


def _tokenized(encoding: Any) -> TokenizedText:
    special = [bool(flag) for flag in encoding.special_tokens_mask]
    return TokenizedText(encoding.ids, bool(encoding.overflowing), special)


def _place(text: str, own: tuple[int, int], word: tuple[int, int]) -> tuple[int, int]:
    """The word a token is part of; the token's own span where the tokeniser knows no words."""
    start, end = _trimmed(text, word)
    one_word = not any(character.isspace() for character in text[start:end])
    return (start, end) if one_word else _trimmed(text, own)


def _trimmed(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """The span without the space that byte-level tokens begin with."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def load_tokenizer(folder: Path) -> Any:
    """The folder's own fast tokeniser, as the tokenizers library has it. Raises `ModelError`."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            return Tokenizer.from_file(str(file))
        # The tokenizers library raises bare Exception for whatever it cannot parse.
        except Exception as error:
            raise ModelError(f"the tokeniser of {folder.name} cannot be read: {error}") from error
    return _converted(folder)


def _converted(folder: Path) -> Any:
    """Older checkpoints have only a vocabulary file: transformers makes a tokeniser of it."""
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            backend = tokenizer.backend_tokenizer
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise ModelError(f"{folder.name} has no tokeniser that can be read: {error}") from error
    return backend
