"""All monitors of one Python program that is being written."""

from __future__ import annotations

from collections.abc import Sequence

from indexes.errors import InvalidInput
from rag.generate.constraint import Constraint
from rag.generate.monitors.breaking import BreakingMonitor
from rag.generate.monitors.monitor import Breaker, Monitor
from rag.generate.monitors.python.call_arguments import CallArguments
from rag.generate.monitors.python.defined_names import DefinedNames
from rag.generate.monitors.python.dereference import Dereference
from rag.generate.monitors.python.import_names import ImportNames
from rag.generate.monitors.python.place import Reader
from rag.generate.monitors.python.program_analysis import ProgramAnalysis
from rag.generate.monitors.suggesting import SuggestingMonitor
from rag.generate.monitors.vocabulary import Vocabulary

PYTHON_MONITORS = ("dereference", "import-names", "call-arguments", "defined-names")


def python_monitors(
    vocabulary: Vocabulary,
    analysis: ProgramAnalysis,
    before: str = "",
    after: str = "",
    names: Sequence[str] = PYTHON_MONITORS,
) -> list[Constraint]:
    """Monitors of what is written between `before` and `after`; `analysis` is of that program.

    `after` begins on a line of its own. Raises `InvalidInput` for a name that is none.
    """
    unknown = set(names) - set(PYTHON_MONITORS)
    if unknown:
        known = ", ".join(PYTHON_MONITORS)
        raise InvalidInput(f"there is no monitor {min(unknown)!r} of Python, but {known}")
    reader = Reader(before)
    suggesting: list[Monitor] = [Dereference(analysis, reader), ImportNames(analysis, reader)]
    breaking: list[Breaker] = [
        CallArguments(analysis, reader),
        DefinedNames(reader, before, after),
    ]
    return [
        *(SuggestingMonitor(one, vocabulary, before) for one in suggesting if one.name in names),
        *(BreakingMonitor(one, vocabulary, before) for one in breaking if one.name in names),
    ]
