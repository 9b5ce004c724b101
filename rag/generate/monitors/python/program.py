"""All monitors of one Python program that is being written."""

from __future__ import annotations

from pathlib import Path

from rag.generate.constraint import Constraint
from rag.generate.monitors.breaking import BreakingMonitor
from rag.generate.monitors.python.analysis import Analysis
from rag.generate.monitors.python.call_arguments import CallArguments
from rag.generate.monitors.python.defined_names import DefinedNames
from rag.generate.monitors.python.dereference import Dereference
from rag.generate.monitors.python.import_names import ImportNames
from rag.generate.monitors.python.place import Reader
from rag.generate.monitors.suggesting import SuggestingMonitor
from rag.generate.monitors.vocabulary import Vocabulary


def python_monitors(
    vocabulary: Vocabulary, before: str = "", after: str = "", path: Path | None = None
) -> list[Constraint]:
    """Monitors of what is written between `before` and `after`, the program at `path`.

    `after` begins on a line of its own.
    """
    analysis, reader = Analysis(path, after), Reader(before)
    return [
        SuggestingMonitor(Dereference(analysis, reader), vocabulary, before),
        SuggestingMonitor(ImportNames(analysis, reader), vocabulary, before),
        BreakingMonitor(CallArguments(analysis, reader), vocabulary, before),
        BreakingMonitor(DefinedNames(reader, before, after), vocabulary, before),
    ]
