"""Colour where a terminal shows it and nobody asked for none; brackets stay readable elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

CODES = {"bold": "1", "dim": "2", "mark": "30;43", "cite": "36"}


def colours() -> bool:
    """Whether stdout is a terminal and `NO_COLOR` is unset."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def shade(text: str, style: str) -> str:
    """The text in a style, on a terminal."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if colours() else text


def painted_spans(text: str, spans: Sequence[tuple[int, int]], style: str = "mark") -> str:
    """The text with these code point spans marked: in colour, or «so» without."""
    pieces, position = [], 0
    for start, end in sorted(spans):
        if start < position or start >= len(text):
            continue
        inside = text[start : min(end, len(text))]
        pieces += [text[position:start], shade(inside, style) if colours() else f"«{inside}»"]
        position = min(end, len(text))
    return "".join([*pieces, text[position:]]).replace("\n", " ")
