"""What guesses tokens ahead: the interface of drafters, and what a draft is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch

Source: TypeAlias = tuple[str, int]
"""Where a draft comes from: a drafter's name and how sure it is, as a class of match lengths."""


class Draft(NamedTuple):
    """Guessed tokens. `scores[i]` gives q_i = softmax of it, `[vocabulary]`: masked, tempered.

    Token i was drawn from top-p of q_i. None: q is one-hot, the drafter is sure or keeps silent.
    `read_s` went into reading a prompt before anything was guessed: once, so no guess's cost.
    """

    source: Source
    token_ids: list[int]
    scores: list[torch.Tensor] | None = None
    read_s: float = 0.0


NO_DRAFT = Draft(("none", 0), [])

FORCED: Source = ("forced", 0)
"""The source of drafts that a constraint made or lengthened: no drafter's success or failure."""


class Allowance(Protocol):
    """How many tokens may be drafted in this step; see `rag.generate.goodput`."""

    def tokens(self, source: Source, available: int, n_unread: int = 0) -> int:
        """The number that pays best, at most `available`; 0: none.

        `n_unread` tokens must be read by the drafter first: what is left of the text must bear it.
        """

    def has_read(self, source: Source, n_tokens: int, seconds: float) -> None:
        """Learn how long the drafter took to read."""

    def gain(self, source: Source, available: int) -> float:
        """Expected tokens a second of drafting from `source`, in units of plain decoding's."""


class Drafter(Protocol):
    """Guesses what comes after a prefix. It serves one request, in which prefixes only grow."""

    def propose(self, prefix: Sequence[int], allowance: Allowance) -> Draft:
        """A draft after `prefix`: the prompt and all committed tokens."""

    def observe(self, prefix: Sequence[int], draft: Sequence[int], logits: torch.Tensor) -> None:
        """See the target's logits: row i, `[vocabulary]`, follows `prefix + draft[:i]`."""


def match_class(n_tokens: int) -> int:
    """Lengths of a match that are as good as each other: 0, 1, 2-3, 4-7, 8-15, 16 and more."""
    return min(n_tokens.bit_length(), 5)
