"""What the decoding loop needs of a language model: forward, crop, position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch


class Context(Protocol):
    """One sequence being decoded: it owns a key-value cache. Not shared between threads."""

    @property
    def position(self) -> int:
        """Tokens held in the cache."""

    def forward(self, token_ids: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        """Append tokens; return float32 logits `[len(token_ids), vocabulary]`.

        Row i is the prediction after `token_ids[i]`. With `last_only` just the last row is
        computed: `[1, vocabulary]`, what a prefill needs. Raises `InvalidInput` when no token is
        given, one is not in the vocabulary, or the sequence would outgrow the context length.
        """

    def crop(self, position: int) -> None:
        """Forget every token after the first `position`; a later forward equals a fresh one.

        Raises `InvalidInput` unless `0 <= position <= self.position`.
        """


class Tokenizer(Protocol):
    """Text to ids and back, and the chat template."""

    @property
    def special_tokens(self) -> frozenset[str]:
        """How the tokens that steer the model are spelled, `<|im_end|>` and the like."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text` with no special token added and none recognised inside it."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of the ids, special tokens left out."""

    def chat(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Ids of (role, content) turns under the chat template, up to the assistant's turn.

        Contents are encoded as plain text: special tokens spelled out in them stay text. A
        template may add a system turn of its own when none is given. Raises `InvalidInput` for a
        role other than system, user or assistant, or turns that the template refuses.
        """


class LanguageModel(Protocol):
    """A loaded model: a factory of contexts and the facts that decoding needs.

    A model may be shared between threads; each of its contexts belongs to one.
    """

    @property
    def name(self) -> str:
        """The name it was asked for by."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of these weights."""

    @property
    def context_length(self) -> int:
        """The most tokens that a context can hold."""

    @property
    def vocabulary_size(self) -> int:
        """Width of the logits."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""

    def open_context(self) -> Context:
        """A fresh, empty context."""


class Feed(NamedTuple):
    """What `context.forward` takes."""

    context: Context
    token_ids: Sequence[int]
    last_only: bool


@runtime_checkable
class TogetherModel(LanguageModel, Protocol):
    """A model that feeds several contexts at once for less than one after the other."""

    def forward_together(self, feeds: Sequence[Feed], *, exact: bool = False) -> list[torch.Tensor]:
        """What each `context.forward` would return, of contexts that are all different.

        But for rounding, unless `exact`: kernels may depend on what is fed together. Raises what
        `forward` raises; then no context has changed.
        """


@runtime_checkable
class BesideModel(LanguageModel, Protocol):
    """A model that takes forwards of one request that need not wait for each other at once."""

    def forward_beside(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        """What each `context.forward` would return, of contexts that are all different.

        To the last bit where `forward` itself does not depend on what is fed at once, as long as no
        other request is fed with them. Raises what `forward` raises.
        """


@runtime_checkable
class SharingContext(Context, Protocol):
    """A context whose forwards share the machine with those of others; see `BatchedContext`."""

    @property
    def load(self) -> int:
        """How many sequences were fed in turn or together when its last forward was computed."""

    @property
    def waited_s(self) -> float:
        """Seconds that forwards took beyond this context's share of the computing, in all."""
