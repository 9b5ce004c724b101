"""Programs to ask about, and the library as it comes, which answers slowly."""

from __future__ import annotations

import os
from pathlib import Path

import jedi

FIRST = """
import enum
import re
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path


class Colour(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: int
    name: str = ""

    def __hidden(self) -> None: ...

    def moved(self) -> "Point":
        return self


class Named(Point, OrderedDict):
    def __init__(self, given):
        self.given = given
        self.path = Path(given)
        del self.given


class Proxy:
    def __init__(self, behind):
        self.behind = behind

    def __getattr__(self, name):
        return getattr(self.behind, name)


class Point3(deque):
    x = 3
"""
ASKED = [
    "Colour.",
    "Colour.RED.",
    "Point.",
    "Point(1).",
    "Point(1).moved().",
    "Named(1).",
    "Named(1).path.parent.",
    "Proxy(Point(1)).",
    "Proxy('a').",
    "Point3().",
    "re.",
    "re.compile('a').match('b').",
    "enum.",
    "'a'.",
    "[1].",
    "{1: 2}.items().",
    "(1, 2).",
    "len.",
    "Point.moved.",
    "unknown.",
    "import os.",
    "from os import ",
    "from collections.abc import ",
    "(x for x in 'a').",
    "1j.",
    "type(1).",
    "super().",
    "class A(Point):\n    def f(self):\n        self.",
]


def slow(text: str, after: str = "", path: Path | None = None) -> frozenset[str]:
    """The obvious twin: the library's own completion, with nothing remembered."""
    lines = text.split("\n")
    root = next(p for p in path.parents if not (p / "__init__.py").exists()) if path else None
    script = jedi.Script(
        f"{text}\n{after}" if after else text,
        path=path,
        environment=jedi.InterpreterEnvironment(),
        project=jedi.Project(root) if root else None,
    )
    return frozenset(one.name for one in script.complete(len(lines), len(lines[-1])))


def write(path: Path, text: str, stamp: int) -> None:
    """At a time that is told: the library looks at the time of the last change."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (stamp, stamp))
