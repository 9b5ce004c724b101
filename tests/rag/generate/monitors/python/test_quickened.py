"""The library made quicker answers as it does by itself, and is left as it was."""

from __future__ import annotations

import gc
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import parso
import pytest
from program_toys import FIRST, slow, write

from eval.code_sites import modules
from rag.generate.monitors.python import members
from rag.generate.monitors.python.analysis import Analysis, uncollected
from rag.generate.monitors.python.quickened import _HELD, _replacing, quickened
from rag.generate.monitors.python.used_names import names_below

MORE = [
    "import socket\nsocket.socket.",
    "import urllib.parse\nurllib.parse.",
    "import typing\ntyping.",
    "import sys\nsys.version_info.",
    "import sys\nsys.",
    "import asyncio\nasyncio.",
    "import collections\ncollections.ChainMap({}).",
    "x = 'a' if y else str(1)\nx.",
    "x = {}\nx['a'] = 1\nx['b'] = ''\nx.",
    "def f(**k):\n    k['a'] = 1\n    if 'b' in k:\n        k['b'] = str(k.pop('a'))\n    k.",
    "def f(*a):\n    a.",
    "def f(a):\n    x = str(a) or a.strip() or 'b'.join(a) or repr(a) or b''\n    x.",
    "class T(type):\n    pass\n\nclass C(metaclass=T):\n    pass\n\nC.",
    "import subprocess\nsubprocess.run([]).",
]
STUB = """
import sys

class Thing:
    first: int
    def __init__(self) -> None:
        self.assigned = 1
    if sys.version_info >= (3, 0):
        new: str
        def both(self) -> str: ...
    else:
        old: int
        def both(self) -> int: ...
    _private: int

class Plain(Thing):
    second: str
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_it_answers_as_the_library_does(seed: int) -> None:
    asked = MORE * 2
    random.Random(seed).shuffle(asked)
    analysis = Analysis()
    text = FIRST
    for one in asked:
        assert analysis.names(text + one) == slow(text + one), one
        text += f"v{len(text)} = 1\n"


@pytest.mark.slow
def test_stubs_that_assign_and_have_conditions(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    write(tmp_path / "things.py", "class Thing:\n    hidden = 1\n", 1_000_000)
    write(tmp_path / "things.pyi", STUB, 1_000_000)
    for one in ("Thing().", "Thing().both().", "Thing.", "Plain().", "Plain().both().", ""):
        text = f"import things\nthings.{one}"
        assert Analysis(program).names(text) == slow(text, path=program), one
    assert {"assigned", "new", "both"} <= Analysis(program).names("import things\nthings.Thing().")
    assert "old" not in Analysis(program).names("import things\nthings.Thing().")


def test_only_conditions_on_python_are_inferred() -> None:
    """Under any other condition there may be a value: more is found than the library finds."""
    on_python = "import sys\nx = 1\nif sys.version_info < (3, 0):\n    x = ''\nx."
    constant = "x = 1\nif 0:\n    x = ''\nx."
    for text in (on_python, constant):
        assert Analysis().names(text) == slow(text) == slow("x = 1\nx.")
    named = "off = False\nx = 1\nif off:\n    x = ''\nx."
    assert Analysis().names(named) == slow("x = 1\nx.") | slow("x = ''\nx.")
    assert slow(named) < Analysis().names(named)


def test_one_of_many_strings_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line doubles the values of a variable where all are kept; they are all strings."""
    from jedi.inference.value.instance import TreeInstance

    asked = []
    slowly = TreeInstance.py__getattribute__

    def spied(self: Any, *arguments: Any, **keywords: Any) -> Any:
        asked.append(self)
        return slowly(self, *arguments, **keywords)

    monkeypatch.setattr(TreeInstance, "py__getattribute__", spied)
    lines = ["def f(k: dict[str, str]):"]
    lines += [f"    k['{at}'] = k.get('{at}', k['{at}']) or k.pop('{at}') or ''" for at in range(5)]
    text = "\n".join([*lines, "    k['a'].upper()."])
    assert Analysis().names(text) == slow("''.")
    n_quick = len(asked)
    asked.clear()
    assert slow(text) == slow("''.")
    assert n_quick < len(asked) / 2


def test_a_stub_that_changed_is_read_anew(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    for stamp, name in ((1_000_000, "first"), (2_000_000, "other")):
        write(tmp_path / "things.pyi", f"class Thing:\n    {name}: int\n", stamp)
        assert name in Analysis(program).names("import things\nthings.Thing().")
    assert "first" not in Analysis(program).names("import things\nthings.Thing().")


def test_definitions_are_remembered() -> None:
    _HELD.clear()
    Analysis().names("'a'.upper().")
    n_first = sum(len(remembered) for remembered in _HELD.values())
    assert n_first > 10
    Analysis().names("x = 1\n'a'.upper().")
    assert sum(len(remembered) for remembered in _HELD.values()) == n_first


def test_the_library_is_left_as_it_was() -> None:
    def found() -> list[Any]:
        return [getattr(owner, name) for owner, name, _ in _replacing()]

    before = found()
    with suppress(RuntimeError), quickened():
        assert found() == [quick for _, _, quick in _replacing()]
        raise RuntimeError
    assert found() == before
    Analysis().names("'a'.")
    assert found() == before


def test_values_with_the_same_members_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[Any] = []
    slowly = members._members

    def spied(value: Any, origin: Any) -> Any:
        listed.append(value)
        return slowly(value, origin)

    monkeypatch.setattr(members, "_members", spied)
    monkeypatch.setattr(members, "_remembered", type(members._remembered)())
    many = (
        "def f(a, b):\n    if a:\n        x = str(a)\n    elif b:\n        x = str(b)\n"
        "    else:\n        x = list(a)\n    x."
    )
    first = Analysis().names(many)
    assert first == slow(many)
    assert len(listed) == 2
    listed.clear()
    assert Analysis().names(f"z = 1\n{many}") == first
    assert not [value for value in listed if value.is_stub()]


@pytest.mark.slow
@pytest.mark.parametrize("package", ["h11", "rich"])
def test_the_names_of_a_tree(package: str) -> None:
    for path in modules(package)[:12]:
        source = path.read_text(encoding="utf-8")
        tree = parso.parse(source + "\nx = (y.")
        found = names_below(tree)
        # Nodes are equal where they are the same.
        wanted = tree.get_used_names()
        assert list(found) == list(wanted)
        assert all(found[name] == wanted[name] for name in wanted)


def test_garbage_is_looked_for_after_a_question() -> None:
    assert gc.isenabled()
    with suppress(RuntimeError), uncollected():
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
