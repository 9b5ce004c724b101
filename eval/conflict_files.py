"""Prompts whose context contradicts what a model may remember: RGB's counterfactuals, MemoTrap.

* RGB (Chen et al. 2024, 2309.01431), JSON lines: retrieved passages in which the answer was
  replaced by a wrong one. Contextual is the replaced answer, memorised the true one.
* MemoTrap (Liu and Liu 2023), CSV: instructions against well-known wordings, such as a proverb that
  is to end in another word. The instruction is the context, as in the CAD paper.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from eval.lines import json_records, open_text
from eval.question_set import distinct
from indexes.errors import InvalidInput, MalformedInput, NotFound

_ASKED = "Question: {}\nAnswer with a few words from the text above."
_QUOTE = re.compile(r'(.*?":)\s+(.*)', re.DOTALL)
_CHOICES = "\nA. "


class Conflict(msgspec.Struct, frozen=True):
    """`contextual` are the answers that follow the context, `memorised` those that ignore it.

    With `continues` the prompt is no question but the beginning of a text, and the answers are
    what it goes on with.
    """

    id: str
    context: str
    prompt: str
    contextual: tuple[str, ...]
    memorised: tuple[str, ...]
    continues: bool = False


class ConflictSet(msgspec.Struct, frozen=True):
    """All of one file."""

    name: str
    conflicts: Sequence[Conflict]


class _Counterfactual(msgspec.Struct, frozen=True):
    id: int
    query: str
    answer: str | list[str | list[str]]
    fakeanswer: str
    positive_wrong: list[str]


def read_conflicts(path: Path) -> ConflictSet:
    """Read an RGB file (`.jsonl`) or a MemoTrap file (`.csv`), each also `.gz`.

    Raises `NotFound`, `MalformedInput`, and `InvalidInput` for a file of another shape or of
    nothing.
    """
    name = path.name.removesuffix(".gz")
    reader = _memo_trap if name.endswith(".csv") else _counterfactuals
    conflicts = list(reader(path))
    if not conflicts:
        raise InvalidInput(f"{path} holds no conflict")
    return ConflictSet(name.rsplit(".", 1)[0], conflicts)


def _counterfactuals(path: Path) -> Iterator[Conflict]:
    for _, record in json_records(path, _Counterfactual):
        yield Conflict(
            id=f"rgb-{record.id}",
            context="\n\n".join(record.positive_wrong),
            prompt=_ASKED.format(record.query),
            contextual=(record.fakeanswer,),
            memorised=_flat(record.answer),
        )


def _flat(answer: str | list[str | list[str]]) -> tuple[str, ...]:
    if isinstance(answer, str):
        return (answer,)
    return distinct(text for one in answer for text in ([one] if isinstance(one, str) else one))


def _memo_trap(path: Path) -> Iterator[Conflict]:
    try:
        with open_text(path) as stream:
            for number, row in enumerate(csv.DictReader(stream)):
                yield _trap(f"memo-{number}", row)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except (KeyError, ValueError, SyntaxError, TypeError, IndexError) as error:
        raise InvalidInput(f"{path} is no MemoTrap file: {error!r}") from error
    except (OSError, EOFError, csv.Error) as error:
        raise MalformedInput(f"{path} cannot be read: {error}") from error


def _trap(key: str, row: dict[str, str]) -> Conflict:
    classes = [str(one) for one in ast.literal_eval(row["classes"])]
    right = classes.pop(int(row["answer_index"]))
    context, prompt = _split(row["prompt"])
    return Conflict(key, context, prompt, (right,), tuple(classes), continues=True)


def _split(prompt: str) -> tuple[str, str]:
    """The instruction, and the text that is to be continued.

    Of a choice the instruction is what stands before the choices; of a translation all but the
    last line, which begins it; of a quotation what demands its end.
    """
    if _CHOICES in prompt:
        at = prompt.index(_CHOICES)
        return prompt[:at], prompt[at + 1 :]
    if "\n" in prompt:
        context, _, begun = prompt.rpartition("\n")
        return context, begun
    found = _QUOTE.fullmatch(prompt)
    if found is None:
        raise ValueError(f"no instruction in {prompt!r}")
    return found[1], found[2]
