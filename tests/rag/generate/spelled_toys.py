"""Toy models whose tokens are spelled out, so that monitors can read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from toy_models import ToyModel

from rag.generate.monitors.token_trie import TokenTrie


class SpelledTokenizer:
    """Tokens are the given bytes; None is a control token."""

    special_tokens: frozenset[str] = frozenset()

    def __init__(self, spelled: Sequence[bytes | None]) -> None:
        self.trie = TokenTrie(spelled)
        self._by_length = sorted(
            ((text, id_) for id_, text in enumerate(spelled) if text), key=lambda p: -len(p[0])
        )

    def encode(self, text: str) -> list[int]:
        data, ids = text.encode(), []
        while data:
            spelled, id_ = next(pair for pair in self._by_length if data.startswith(pair[0]))
            ids.append(id_)
            data = data[len(spelled) :]
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        return b"".join(self.trie.spelled[id_] or b"" for id_ in token_ids).decode(errors="replace")

    def chat(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        return self.encode("".join(text for _, text in messages))

    def grammar_tokens(self, n_tokens: int, eos_ids: frozenset[int]) -> Any:
        raise NotImplementedError


def spelled_model(spelled: Sequence[bytes | None], **options: Any) -> ToyModel:
    """The last token, which has no text, is EOS."""
    vocabulary = [*spelled, None]
    eos_ids = frozenset({len(vocabulary) - 1})
    model = ToyModel(len(vocabulary), eos_ids=eos_ids, **options)
    model.tokenizer = SpelledTokenizer(vocabulary)
    return model


def tokens_over(alphabet: str) -> st.SearchStrategy[list[bytes]]:
    """A vocabulary of every byte of the letters, and some longer tokens; repeats are allowed."""
    single = sorted({bytes([byte]) for byte in alphabet.encode()})
    longer = st.text(alphabet, min_size=1, max_size=5).map(str.encode)
    return st.lists(longer, max_size=25).map(lambda more: [*single, *more])
