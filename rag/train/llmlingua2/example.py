"""One example of the token classifier's training."""

from __future__ import annotations

import msgspec

from rag.compress.words import Span


class Example(msgspec.Struct, frozen=True):
    """A text, the question it is read for ("" for none), and the stretches worth preserving."""

    question: str
    text: str
    preserve: list[Span]
