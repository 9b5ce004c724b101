"""Static analysis of a Python program by jedi, in this process."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from rag.generate.monitors.python.library import library_of, root_of
from rag.generate.monitors.python.members import names_at
from rag.generate.monitors.python.program_analysis import Kind, Parameter
from rag.generate.monitors.python.quickened import quickened
from rag.generate.monitors.python.used_names import note_names

_LOCK = threading.Lock()
"""Parsed modules are kept by the library for the whole process, and it is not safe for threads."""

Answer = TypeVar("Answer")


class Analysis:
    """One program: the text before the cursor comes with each question, `after` stays.

    `path` is where the program stands: it can import what lies beside it, or beside the outermost
    package that it is part of, besides what is installed. Answers are kept by text.
    """

    def __init__(self, path: Path | None = None, after: str = "") -> None:
        self._path = path
        self._after = f"\n{after}" if after else ""
        self._names: dict[str, frozenset[str]] = {}
        self._signatures: dict[str, list[list[Parameter]]] = {}
        with _LOCK:
            self._library = library_of(path)

    def names(self, text: str) -> frozenset[str]:
        """What can stand after `text`; nothing when that is not known."""
        if text not in self._names:
            self._names[text] = self._ask(text, names_at, frozenset())
        return self._names[text]

    def signatures(self, text: str) -> list[list[Parameter]]:
        """Parameters of each callable that `text`, which ends in its bracket, may call."""
        if text not in self._signatures:
            self._signatures[text] = self._ask(text, _signatures_at, [])
        return self._signatures[text]

    def foresee(self, kind: Kind, text: str) -> None:
        """Nothing: who asks here waits."""

    @cached_property
    def _surroundings(self) -> tuple[Any, Any]:
        """The interpreter, and the project where there is one: what can be imported."""
        import jedi

        project = jedi.Project(root_of(self._path)) if self._path else None
        return jedi.InterpreterEnvironment(), project

    def _ask(self, text: str, question: Callable[[Any, int, int], Answer], none: Answer) -> Answer:
        import jedi

        lines = text.split("\n")
        environment, project = self._surroundings
        with _LOCK:
            script = jedi.Script(
                text + self._after, path=self._path, environment=environment, project=project
            )
            self._library.lend(script)
            note_names(script)
            try:
                with quickened(), uncollected():
                    answer = question(script, len(lines), len(lines[-1]))
            except Exception:  # noqa: BLE001 - unfinished programs break the library in many ways
                return none
            self._library.take(script)
            return answer


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for garbage after a question and not during it.

    A question makes a hundred thousand objects and drops most; looking through them every 700 leads
    every now and then to a look through all the library's trees, which takes up to a second.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _signatures_at(script: Any, line: int, column: int) -> list[list[Parameter]]:
    return [
        [Parameter(p.name, p.kind.name, _is_required(p)) for p in signature.params]
        for signature in script.get_signatures(line, column)
    ]


def _is_required(parameter: Any) -> bool:
    kinds = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")
    return parameter.kind.name in kinds and "=" not in parameter.to_string()
