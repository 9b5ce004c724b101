"""What a model was shown besides the instructions: the evidence, and the question about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec


class Shown(msgspec.Struct, frozen=True):
    """`texts[n]` is the evidence numbered n + 1 as the model reads it, "" where it was left out.

    `null_prompt` gives the prompt's ids with the evidence emptied and all else as it was; it is
    only called when a rule needs them.
    """

    texts: Sequence[str]
    question: str
    null_prompt: Callable[[], list[int]]

    @property
    def is_empty(self) -> bool:
        """Whether there is no evidence to hold a text to."""
        return not any(text.strip() for text in self.texts)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the evidence that can be cited."""
        return [number for number, text in enumerate(self.texts, 1) if text]
