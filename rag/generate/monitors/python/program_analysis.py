"""What monitors ask of a static analysis of one program, whoever gives it."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

Kind = Literal["names", "signatures"]


class Parameter(msgspec.Struct, frozen=True, array_like=True):
    """One parameter of a callable; `kind` as of `inspect.Parameter`."""

    name: str
    kind: str
    is_required: bool


class ProgramAnalysis(Protocol):
    """One program: the text before the cursor comes with each question."""

    def names(self, text: str) -> frozenset[str]:
        """What can stand after `text`; nothing when that is not known."""

    def signatures(self, text: str) -> list[list[Parameter]]:
        """Parameters of each callable that `text`, which ends in its bracket, may call."""

    def foresee(self, kind: Kind, text: str) -> None:
        """Hear of a question that is likely to come; returns at once."""
