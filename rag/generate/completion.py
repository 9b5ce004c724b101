"""Python code written on from a cursor, held to what static analysis knows of the program."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from indexes.errors import InvalidInput
from rag.answer import Decode, DecodeReport, Usage
from rag.generate.constraint import Constraint
from rag.generate.distribution import Steering
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.language_model import LanguageModel
from rag.generate.loop import decode_report, generate
from rag.generate.monitors.begun import begun_automaton
from rag.generate.monitors.byte_monitor import ByteMonitor
from rag.generate.monitors.python.analysis import Analysis
from rag.generate.monitors.python.analyst import Analyst
from rag.generate.monitors.python.program import PYTHON_MONITORS, python_monitors
from rag.generate.monitors.timed import TimedTogether
from rag.generate.monitors.vocabulary import vocabulary_of
from rag.stopwatch import Stopwatch

PROMPT_TOKENS = 1024
"""So much of what stands before the cursor is read at most, the end of it."""

_BEGUN = re.compile(r"[ \t]*\w*\Z")


class Program(msgspec.Struct, frozen=True):
    """A program cut at a cursor; `after` begins on the line after the cursor's.

    `path` is where it stands, for its imports.
    """

    before: str
    after: str = ""
    path: Path | None = None


class Completion(msgspec.Struct, frozen=True):
    """What was written at the cursor, and how. `truncated`: not all before it was read.

    In `timings_ms` the monitors' time is within that of generating, most of it beside the model's.
    """

    text: str
    usage: Usage
    decode: DecodeReport
    timings_ms: dict[str, float]
    truncated: bool = False


def program_at(source: str, line: int, column: int, path: Path | None = None) -> Program:
    """The program cut before character `column` of `line`, both from 1 on.

    Raises `InvalidInput` for a place that it has not.
    """
    lines = source.split("\n")
    if not 1 <= line <= len(lines):
        raise InvalidInput(f"line {line}: there are {len(lines)} lines")
    text = lines[line - 1]
    if not 1 <= column <= len(text) + 1:
        raise InvalidInput(f"column {column}: line {line} has columns 1 to {len(text) + 1}")
    before = "\n".join([*lines[: line - 1], text[: column - 1]])
    return Program(before, "\n".join(lines[line:]), path)


def complete(
    model: LanguageModel,
    program: Program,
    decode: Decode,
    *,
    monitors: Sequence[str] = PYTHON_MONITORS,
    prompt_tokens: int = PROMPT_TOKENS,
    analyst: Analyst | None = None,
    memory: DraftMemory | None = None,
    cancel: threading.Event | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Completion:
    """Write on at the cursor, held to `monitors` of `PYTHON_MONITORS`.

    A word that the cursor stands in is written anew, in the tokens that the model prefers, and not
    told again. `analyst` is who the monitors ask: this process itself, which is slower, without
    one. `memory` is what completions of one person share: what drafts are made of, and
    prompts that were read. Raises `InvalidInput` for other monitors, `Unsupported` for a model
    whose tokens cannot be monitored, and as `rag.generate.loop.generate` does.
    """
    watch = Stopwatch(None)
    begun = _begun(program.before)
    before = program.before[: len(program.before) - len(begun)]
    # First of all, since they ask at once.
    held = _held(model, program, before, begun, monitors, analyst)
    with watch.stage("prompt"):
        token_ids = model.tokenizer.encode(before) or model.tokenizer.encode("\n")
        room = min(prompt_tokens, model.context_length - decode.max_tokens)
        if room < 1:
            raise InvalidInput(f"{decode.max_tokens} tokens leave no room for a prompt")
        prompt_ids = token_ids[-room:]
    told = _Told(begun, on_text)
    with watch.stage("generate"):
        generation = generate(
            model,
            prompt_ids,
            decode,
            steering=Steering(constraints=(held,) if held else ()),
            drafting=Drafting(memory or DraftMemory()),
            cancel=cancel,
            on_text=told,
        )
    n_tokens = len(generation.token_ids)
    return Completion(
        text=told.text,
        usage=Usage(len(prompt_ids), len(prompt_ids), n_tokens),
        decode=msgspec.structs.replace(
            decode_report(decode, generation),
            monitors=list(monitors),
            masked=held.n_masked(n_tokens) if held else 0,
            suggestions=held.n_suggested(n_tokens) if held else 0,
        ),
        timings_ms=watch.total() | {"monitors": held.spent_ms if held else 0.0},
        truncated=len(prompt_ids) < len(token_ids),
    )


def _begun(before: str) -> str:
    """The word that the cursor stands in, with the white space before it; "" at a line's start."""
    found = _BEGUN.search(before)
    return found[0] if found else ""


def _held(
    model: LanguageModel,
    program: Program,
    before: str,
    begun: str,
    monitors: Sequence[str],
    analyst: Analyst | None,
) -> TimedTogether | None:
    """What the text is held to. The word that was begun comes first: it stands there already."""
    found: list[Constraint] = []
    if not begun and not monitors:
        return None
    vocabulary = vocabulary_of(model)
    if begun:
        found.append(ByteMonitor(begun_automaton(begun), vocabulary))
    if monitors:
        opened = Analysis if analyst is None else analyst.open
        analysis = opened(program.path, program.after)
        found += python_monitors(vocabulary, analysis, before, program.after, monitors)
    return TimedTogether(found)


class _Told:
    """Pieces of text without what stood there before, which is written first."""

    def __init__(self, begun: str, on_text: Callable[[str], None] | None) -> None:
        self._left = len(begun)
        self._on_text = on_text
        self.text = ""

    def __call__(self, piece: str) -> None:
        new = piece[self._left :]
        self._left = max(0, self._left - len(piece))
        self.text += new
        if new and self._on_text is not None:
            self._on_text(new)
