"""Names: one that is used was written somewhere in the program before, or is built in."""

from __future__ import annotations

import builtins
import keyword
import re

from rag.generate.monitors.python.place import Reader

_WORD = re.compile(r"[^\W\d]\w*")
_STAR_IMPORT = re.compile(r"^[ \t]*from[ \t]+[\w.]+[ \t]+import[ \t]*\*", re.MULTILINE)
_USED = re.compile(
    r"(?:\b(?:return|in|if|elif|while|and|or|not|is|yield|await|assert|raise|else)[ \t]+"
    r"|(?<![=!<>])=[ \t]*|[-+*/%<>|&^][ \t]*|[=!]=[ \t]*)([^\W\d]\w*)\Z"
)
_ASSIGNED_TOO = re.compile(r"[ \t]*=(?!=)")
_ENDS = bytes(byte for byte in range(0x80) if not (chr(byte).isalnum() or chr(byte) == "_"))
_BUILT_IN = frozenset([*dir(builtins), *keyword.kwlist, *keyword.softkwlist])


class DefinedNames:
    """Calls a name invented that stands nowhere else in the program, `before` or `after`.

    Only outside of brackets, where no comprehension can bind it later, and only where it is used
    for sure: after `=`, an operator, or a word such as return. A program that imports a star may
    use any name.
    """

    name = "defined-names"

    def __init__(self, reader: Reader, before: str, after: str = "") -> None:
        self._reader = reader
        self._n_before = len(before)
        self._known = _BUILT_IN.union(_WORD.findall(after))
        # The last word before the cursor may be the beginning of one.
        self._known |= set(_WORD.findall(re.sub(r"\w+\Z", "", before)))
        self._is_open = _STAR_IMPORT.search(before + "\n" + after) is not None

    def closers(self, text: str) -> bytes:
        """Whatever ends a name, where the text ends in one that is used and not known."""
        name = self._invented(text)
        return b"" if name is None else _ENDS

    def breaks(self, text: str, ahead: str) -> bool:
        """Whether a name ends here that is invented, and is not assigned to either."""
        return self._invented(text[:-1]) is not None and not _ASSIGNED_TOO.match(text[-1] + ahead)

    def _invented(self, text: str) -> str | None:
        line = text[text.rfind("\n") + 1 :]
        found = None if self._is_open else _USED.search(line)
        if found is None or found[1] in self._known:
            return None
        place = self._reader.place(text)
        if place.kind != "code" or place.brackets:
            return None
        written = text[self._n_before : len(text) - len(found[1])]
        return None if found[1] in _WORD.findall(written) else found[1]
