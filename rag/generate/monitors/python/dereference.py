"""Attributes: after a point comes a member of what stands before it."""

from __future__ import annotations

import re
import time

from rag.generate.monitors.python.place import Reader
from rag.generate.monitors.python.program_analysis import ProgramAnalysis

WORTH_S = 0.02
"""Most answers are there by then."""

WORD = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

_POINT = re.compile(r"[\w)\]}\"']\.")
_NUMBER = re.compile(r"(?<![\w.)\]}\"'])[0-9][\w]*\.\Z")
_ASSIGNED = re.compile(r"^[ \t]*(?:self|cls)\.\Z", re.MULTILINE)
_CHAINED = re.compile(r"[\w)\]}\"']\s+\.")

_NAME = re.compile(r"[^\W\d]\w*\Z")

_OF_ENUM = frozenset({"_generate_next_value_", "mro"})
_NO_MEMBERS = frozenset({"mro", "name", "value"})


class Dereference:
    """The members that static analysis finds; what has none that are known is free.

    So is what may be about to be assigned: `self.` at the beginning of a line.
    """

    name = "dereference"
    word = WORD

    def __init__(self, analysis: ProgramAnalysis, reader: Reader) -> None:
        self._analysis = analysis
        self._reader = reader
        self._heard_at = time.monotonic()

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

    def foresee(self, text: str) -> None:
        """After a name behind which the program has had a point, another one is likely.

        Every other time it is not, and a question holds up the next one: it pays where tokens take
        as long as answers do.
        """
        now = time.monotonic()
        token_s, self._heard_at = now - self._heard_at, now
        if token_s < WORTH_S:
            return
        line = text.rfind("\n") + 1
        found = _NAME.search(text, line)
        if found is None or f"{found[0]}." not in text:
            return
        pointed = f"{text}."
        if self._reader.place(text).kind == "code" and not _ASSIGNED.search(pointed, line):
            self._analysis.foresee("names", pointed)
