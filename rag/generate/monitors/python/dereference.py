"""Attributes: after a point comes a member of what stands before it."""

from __future__ import annotations

import re

from rag.generate.monitors.python.analysis import Analysis
from rag.generate.monitors.python.place import Reader

WORD = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

_POINT = re.compile(r"[\w)\]}\"']\.")
_NUMBER = re.compile(r"(?<![\w.)\]}\"'])[0-9][\w]*\.\Z")
_ASSIGNED = re.compile(r"^[ \t]*(?:self|cls)\.\Z", re.MULTILINE)
_CHAINED = re.compile(r"[\w)\]}\"']\s+\.")

_OF_ENUM = frozenset({"_generate_next_value_", "mro"})
_NO_MEMBERS = frozenset({"mro", "name", "value"})


class Dereference:
    """The members that static analysis finds; what has none that are known is free.

    So is what may be about to be assigned: `self.` at the beginning of a line.
    """

    name = "dereference"
    word = WORD

    def __init__(self, analysis: Analysis, reader: Reader) -> None:
        self._analysis = analysis
        self._reader = reader

    def triggers(self, _text: str) -> bytes:
        """A point."""
        return b"."

    def pre(self, text: str) -> bool:
        """Whether the last character is the point of a dereference."""
        place = self._reader.place(text)
        line = text.rfind("\n") + 1
        if place.kind != "code" or _NUMBER.search(text, line):
            return False
        last = len(text[:-1].rstrip()) - 1
        if place.brackets and _CHAINED.fullmatch(text, max(0, last)):
            return True
        return bool(_POINT.fullmatch(text, max(0, len(text) - 2))) and not _ASSIGNED.search(
            text, line
        )

    def suggest(self, text: str) -> frozenset[str]:
        """The members."""
        names = self._analysis.names(text)
        return names - _NO_MEMBERS if names >= _OF_ENUM else names
