"""From what msgspec says about a value to a JSON pointer (RFC 6901) at the culprit."""

from __future__ import annotations

import re

_PLACE = re.compile(r"(?s)(?P<what>.*) - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_NAMED_FIELD = re.compile(r"(?s)Object (?:contains unknown|missing required) field `(.*)`")


def split_message(message: str) -> tuple[str, str]:
    """What is wrong, and the pointer to where.

    An unknown or missing field is pointed at itself, not at the object around it. Keys of free
    dictionaries are unknown to msgspec (`[...]`): the pointer then stops at the dictionary.
    """
    placed = _PLACE.fullmatch(message)
    what, path = (placed["what"], placed["path"]) if placed else (message, "")
    steps = _steps(path)
    if named := _NAMED_FIELD.fullmatch(what):
        steps.append(named[1])
    return what, "".join("/" + _escape(step) for step in steps)


def _steps(path: str) -> list[str]:
    steps: list[str] = []
    position = 0
    while step := _STEP.match(path, position):
        steps.append(step[1] or step[2])
        position = step.end()
    return steps


def _escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")
