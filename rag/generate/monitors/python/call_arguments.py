"""Calls: keyword arguments have names that the callable knows, and there are enough and no more."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag.generate.monitors.python.place import Reader, split_arguments
from rag.generate.monitors.python.program_analysis import Parameter, ProgramAnalysis

_CALLED = re.compile(r"[\w)\]]")
_NO_CALL = re.compile(
    r"\b(?:def\s+\w+|class\s+\w+|and|or|not|in|is|if|else|elif|while|for|return|yield|await"
    r"|lambda|assert|del|import|except|with|from|raise)\Z"
)
_KEYWORD = re.compile(r"\s*(\w+)\s*=(?!=)")
_OPAQUE = re.compile(r"\s*\*|.*\b(?:lambda|for)\b", re.DOTALL)
"""Arguments that may stand for any number, or have commas of their own."""


class CallArguments:
    """A mistake is one for every signature that static analysis finds, if it finds any."""

    name = "call-arguments"

    def __init__(self, analysis: ProgramAnalysis, reader: Reader) -> None:
        self._analysis = analysis
        self._reader = reader

    def closers(self, text: str) -> bytes:
        """What ends an argument, or its name, within a call."""
        return b"" if self._head(text) is None else b"=,)"

    def breaks(self, text: str, ahead: str) -> bool:
        """Whether the callable takes no such argument, or no more, or must have more."""
        head = self._head(text[:-1])
        if head is None:
            return False
        arguments = split_arguments(text[len(head) : -1])
        if any(_OPAQUE.match(one) for one in arguments):
            return False
        signatures = self._analysis.signatures(head)
        return bool(signatures) and all(
            _is_mistake(text[-1], ahead, arguments, known) for known in signatures
        )

    def foresee(self, text: str) -> None:
        """A call that has begun will have arguments."""
        head = self._head(text)
        if head is not None:
            self._analysis.foresee("signatures", head)

    def _head(self, text: str) -> str | None:
        """The text up to the bracket of the call that it ends in, if it does."""
        place = self._reader.place(text)
        if place.kind != "code" or not place.brackets:
            return None
        bracket = place.brackets[-1]
        before = text[:bracket]
        if text[bracket] != "(" or not _CALLED.fullmatch(before[-1:]):
            return None
        if _NO_CALL.search(before, before.rfind("\n") + 1):
            return None
        return text[: bracket + 1]


def _is_mistake(
    closer: str, ahead: str, arguments: Sequence[str], known: Sequence[Parameter]
) -> bool:
    """Whether `closer` is one in a call of a callable with these parameters."""
    kinds = {parameter.kind for parameter in known}
    if closer == "=":
        name = arguments[-1].strip()
        if ahead.startswith("=") or not name.isidentifier() or "VAR_KEYWORD" in kinds:
            return False
        return name not in {p.name for p in known if p.kind != "POSITIONAL_ONLY"}
    if closer == ",":
        # A comma promises one more argument.
        if kinds & {"VAR_KEYWORD", "VAR_POSITIONAL"}:
            return False
        return len(arguments) >= len(known)
    given = [one for one in arguments if one.strip()]
    named = {found[1] for one in given if (found := _KEYWORD.match(one))}
    n_positional = len(given) - len(named)
    return any(
        parameter.is_required and at >= n_positional and parameter.name not in named
        for at, parameter in enumerate(known)
    )
