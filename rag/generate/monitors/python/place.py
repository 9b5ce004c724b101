"""Where in a Python program a text ends: in code, in a string or in a comment; in which brackets.

A program that is being written is never whole, so this reads just what is needed: strings, comments
and brackets.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

_PATTERN = r"""
    (?P<comment>\#[^\n]*)
    |(?P<string>\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}
        |"(?!"")(?:[^"\\\n]|\\.)*"|'(?!'')(?:[^'\\\n]|\\.)*')
    |(?P<unclosed>\"{3}(?:[^\\]|\\.)*\\?\Z|'{3}(?:[^\\]|\\.)*\\?\Z
        |"(?:[^"\\\n]|\\.)*\\?\Z|'(?:[^'\\\n]|\\.)*\\?\Z)
    |(?P<open>[([{])|(?P<close>[)\]}])
    |(?P<newline>\n)
    """
_SCANNED = re.compile(_PATTERN, re.VERBOSE | re.DOTALL)
_ARGUMENTS = re.compile(_PATTERN + "|(?P<comma>,)", re.VERBOSE | re.DOTALL)

Kind = Literal["code", "string", "comment"]


class Place(NamedTuple):
    """The end of a text. `brackets` are the offsets of those still open, the outermost first."""

    kind: Kind
    brackets: tuple[int, ...]


class Reader:
    """Finds the place of texts that all begin with `before`, which is read once."""

    def __init__(self, before: str = "") -> None:
        self._start = 0
        self._brackets: tuple[int, ...] = ()
        place = self._read(before, remember=True)
        self._last = (before, place)

    def place(self, text: str) -> Place:
        """Where `text` ends."""
        if self._last[0] != text:
            self._last = (text, self._read(text))
        return self._last[1]

    def _read(self, text: str, *, remember: bool = False) -> Place:
        brackets = list(self._brackets)
        kind: Kind = "code"
        start = self._start
        for found in _SCANNED.finditer(text, start):
            kind = "code"
            match found.lastgroup:
                case "open":
                    brackets.append(found.start())
                case "close" if brackets:
                    brackets.pop()
                case "newline" if remember:
                    # Whatever comes after, what stands before this line is read.
                    self._start, self._brackets = found.end(), tuple(brackets)
                case "unclosed":
                    kind = "string"
                case "comment" if found.end() == len(text):
                    kind = "comment"
        return Place(kind, tuple(brackets))


def split_arguments(text: str) -> list[str]:
    """What stands between the commas that are in no bracket or string; the last is unfinished."""
    cuts, depth = [0], 0
    for found in _ARGUMENTS.finditer(text):
        match found.lastgroup:
            case "open":
                depth += 1
            case "close":
                depth -= 1
            case "comma" if depth == 0:
                cuts.append(found.end())
    ends = [cut - 1 for cut in cuts[1:]]
    return [text[start:end] for start, end in zip(cuts, [*ends, len(text)], strict=True)]
