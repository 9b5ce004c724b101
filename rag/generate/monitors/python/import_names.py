"""`from m import`: what comes is a name of the module, or one of its modules."""

from __future__ import annotations

import re

from rag.generate.monitors.python.dereference import WORD
from rag.generate.monitors.python.place import Reader
from rag.generate.monitors.python.program_analysis import ProgramAnalysis

_STATEMENT = re.compile(
    r"^[ \t]*from[ \t]+[\w.]+[ \t]+import\b[^\n;(]*(?:\([^)]*)?\Z", re.MULTILINE
)
_NAME_NEXT = re.compile(r"\bimport(?:[ \t]+|[ \t]*\(\s*)(?:\w+(?:\s+as\s+\w+)?\s*,\s*)*\Z")


class ImportNames:
    """The module's names by static analysis; a module that is not found is free."""

    name = "import-names"
    word = WORD

    def __init__(self, analysis: ProgramAnalysis, reader: Reader) -> None:
        self._analysis = analysis
        self._reader = reader

    def triggers(self, text: str) -> bytes:
        """What stands before a name, within such a statement."""
        return b" (,\n\t" if _statement(text) else b""

    def pre(self, text: str) -> bool:
        """Whether a name is next."""
        found = _statement(text)
        return (
            found is not None
            and self._reader.place(text).kind == "code"
            and _NAME_NEXT.search(text, found.start()) is not None
        )

    def suggest(self, text: str) -> frozenset[str]:
        """The names; a star, a bracket and white space may come as well."""
        names = self._analysis.names(text)
        return names | {"*", "(", " ", "\n", "\\"} if names else names


def _statement(text: str) -> re.Match[str] | None:
    """The statement that the text ends in; it begins after the last closing bracket."""
    return _STATEMENT.search(text, text.rfind(")") + 1)
