"""What monitors need to know of a model's tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from indexes.errors import Unsupported
from rag.generate.language_model import LanguageModel
from rag.generate.monitors.token_trie import Bools, TokenTrie

if TYPE_CHECKING:
    import torch


@runtime_checkable
class SpelledTokenizer(Protocol):
    """A tokenizer whose tokens' bytes are known; it keeps what is made of them."""

    @property
    def trie(self) -> TokenTrie:
        """The vocabulary by its bytes."""

    def grammar_tokens(self, n_tokens: int, eos_ids: frozenset[int]) -> Any:
        """The vocabulary as llguidance wants it, for logits of `n_tokens`."""


class Vocabulary:
    """A model's tokens, as wide as its logits, and which of them end a text."""

    def __init__(self, trie: TokenTrie, n_tokens: int, eos_ids: frozenset[int]) -> None:
        self.trie = trie
        self.n_tokens = n_tokens
        self.eos_ids = eos_ids
        # Control tokens stand for no text; logits beyond the vocabulary are padding.
        self._control = trie.control[trie.control < n_tokens]

    def spelling(self, token_id: int) -> bytes:
        """The bytes of a token; none for a control token."""
        return self.trie.spelled[token_id] or b"" if token_id < self.trie.n_tokens else b""

    def mask(self, legal: Bools, *, may_end: bool) -> torch.Tensor | None:
        """A bool `[n_tokens]` for the tokens of the trie that are legal; None: none is forbidden.

        Tokens that end the text, and others without text, are legal where it may end.
        """
        import torch

        wide = np.zeros(self.n_tokens, np.bool_)
        n_known = min(self.n_tokens, self.trie.n_tokens)
        wide[:n_known] = legal[:n_known]
        wide[self._control] = may_end
        return None if wide[:n_known].all() else torch.from_numpy(wide)

    def containing(self, stops: bytes, *, at_end: bool) -> torch.Tensor | None:
        """A mask of the tokens with one of these bytes, with more after it unless `at_end`.

        None where there are none. It is kept, for all requests.
        """
        key = stops, at_end, self.n_tokens
        if key not in self.trie.masks:
            found = self.trie.containing(stops, at_end=at_end)
            self.trie.masks[key] = self.mask(found, may_end=False) if found.any() else None
        return self.trie.masks[key]


def vocabulary_of(model: LanguageModel) -> Vocabulary:
    """The vocabulary of `model`. Raises `Unsupported` when its tokens' bytes are not known."""
    if not isinstance(model.tokenizer, SpelledTokenizer):
        raise Unsupported(f"the tokenizer of {model.name} cannot be monitored")
    return Vocabulary(model.tokenizer.trie, model.vocabulary_size, model.eos_ids)
