"""What the monitors of Python say of real programs, and that no token steps over them."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spelled_toys import spelled_model

from rag.answer import Decode
from rag.generate.constraint import ConstraintTrack
from rag.generate.distribution import Steering
from rag.generate.loop import generate
from rag.generate.monitors.python.analysis import Analysis
from rag.generate.monitors.python.call_arguments import CallArguments
from rag.generate.monitors.python.defined_names import DefinedNames
from rag.generate.monitors.python.dereference import Dereference
from rag.generate.monitors.python.import_names import ImportNames
from rag.generate.monitors.python.place import Reader
from rag.generate.monitors.python.program import python_monitors
from rag.generate.monitors.together import Together
from rag.generate.monitors.vocabulary import vocabulary_of

PROGRAM = """\
from enum import Enum


class Colour(Enum):
    RED = 1
    BLUE = 2


class Builder:
    def __init__(self, host: str = "") -> None:
        self.host = host

    def with_host(self, host: str) -> "Builder":
        return Builder(host)

    def build(self, port, *, secure=False) -> str:
        return self.host


def anything(*args, **kwargs):
    return args


builder = Builder()
"""


def dereference(after: str = "") -> Dereference:
    return Dereference(Analysis(after=after), Reader())


@pytest.mark.parametrize(
    "text",
    [
        "x.",
        "f().",
        "a[0].",
        "'a'.",
        '"""a""".',
        "x1.",
        "import os.",
        "(a\n  .",
        "y = self.",
        "f(self.",
    ],
)
def test_dereferences(text: str) -> None:
    assert dereference().pre(text)


@pytest.mark.parametrize(
    "text",
    ["1.", "x = 10.", "x = 1_0.", "..", "...", "'a.", "# a.", '"""\na.', "from .", "x = .",
     "a\n  .", "    self.", "cls.", "(1."],
)  # fmt: skip
def test_points_that_are_none(text: str) -> None:
    assert not dereference().pre(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "some", "none_of"),
    [
        ("builder.", {"build", "with_host", "host"}, {"append"}),
        ("builder.with_host('a').", {"build"}, {"upper"}),
        ("'a'.", {"upper", "format"}, {"build"}),
        ("Colour.", {"RED", "BLUE"}, {"mro", "name", "value"}),
        ("Colour.RED.", {"name", "value"}, set()),
    ],
)
def test_members(text: str, some: set[str], none_of: set[str]) -> None:
    found = dereference().suggest(PROGRAM + text)
    assert some <= found
    assert not none_of & found


@pytest.mark.parametrize("text", ["def f(x):\n    x.", "import json\njson.loads('1').", "unknown."])
def test_what_is_not_known_is_free(text: str) -> None:
    assert dereference().suggest(text) == frozenset()


@pytest.mark.slow
def test_what_comes_after_the_cursor_counts() -> None:
    head = "class A:\n    def one(self):\n        return self."
    after = "\n    def two(self):\n        return 2\n"
    assert "two" in dereference(after).suggest(head)
    assert "two" not in dereference().suggest(head)


IMPORTS = ImportNames(Analysis(), Reader())


@pytest.mark.parametrize(
    "text",
    ["from a import ", "from a import b, ", "from a.b import (", "from a import (b as c,\n    ",
     "x\n    from a import "],
)  # fmt: skip
def test_a_name_is_next(text: str) -> None:
    assert IMPORTS.pre(text)
    assert text[-1:].encode() in IMPORTS.triggers(text[:-1]) or text.endswith("import ")


@pytest.mark.parametrize(
    "text", ["import ", "from a ", "from a import b ", "from a import b as ", "# from a import ",
             "'''\nfrom a import ", "from a import b; ", "from a import (b) "],
)  # fmt: skip
def test_no_name_is_next(text: str) -> None:
    assert not IMPORTS.pre(text)


def test_imported_names() -> None:
    found = IMPORTS.suggest("from collections import ")
    assert {"OrderedDict", "deque", "*", "("} <= found
    assert IMPORTS.suggest("from no_such_module import ") == frozenset()


CALLS = CallArguments(Analysis(), Reader())


@pytest.mark.parametrize(
    ("text", "ahead"),
    [
        ("builder.build(port, secret=", "True"),
        ("builder.build(1, 2,", " "),
        ("builder.build()", ""),
        ("builder.build(secure=True)", "\n"),
        ("Builder('a', 'b',", ""),
        ("Builder(nost=", ""),
    ],
)
def test_calls_that_are_wrong(text: str, ahead: str) -> None:
    assert text[-1:].encode() in CALLS.closers(PROGRAM + text[:-1])
    assert CALLS.breaks(PROGRAM + text, ahead)


@pytest.mark.parametrize(
    ("text", "ahead"),
    [
        ("builder.build(port, secure=", "True"),
        ("builder.build(port=", ""),
        ("builder.build(port)", ""),
        ("builder.build(1,", " "),
        ("builder.build(x=", "=y"),
        ("builder.build(*ports)", ""),
        ("builder.build(lambda a, b,", ""),
        ("builder.build((1, 2)", ""),
        ("builder.build(x for x in y)", ""),
        ("anything(1, 2, 3, four=", ""),
        ("anything()", ""),
        ("unknown(a=", ""),
        ("Builder()", ""),
        ("def new(a=", ""),
        ("if (a)", ""),
        ("[builder.build(1)]", ""),
        ("'builder.build()", ""),
    ],
)
def test_calls_that_may_be_right(text: str, ahead: str) -> None:
    assert not CALLS.breaks(PROGRAM + text, ahead)


def names(before: str = PROGRAM, after: str = "") -> DefinedNames:
    return DefinedNames(Reader(before), before, after)


@pytest.mark.parametrize(
    "text",
    ["x = hostile", "return hostile", "y = 1 + hostile", "if hostile", "a = not hostile"],
)
def test_invented_names(text: str) -> None:
    said = PROGRAM + text
    assert b"." in names().closers(said)
    assert names().breaks(said + ".", "")
    assert names().breaks(said + "\n", "")
    assert names(after="hostile = 1").closers(said) == b""
    assert names("from os import *\n").closers("from os import *\n" + text) == b""


@pytest.mark.parametrize(
    "text",
    ["hostile", "x = builder", "x = print", "x = [hostile", "for hostile", "x.hostile",
     "# = hostile", "x = 'return hostile", "def hostile", "f(a=hostile", "hostile = 1\nx = hostile",
     "x = lambda hostile", "x = True"],
)  # fmt: skip
def test_names_that_may_be_right(text: str) -> None:
    assert names().closers(PROGRAM + text) == b""


def test_a_name_assigned_twice_over_is_none_that_is_used() -> None:
    assert not names().breaks(PROGRAM + "x = hostile ", "= 1")
    assert names().breaks(PROGRAM + "x = hostile ", "== 1")


FUSED = [b".build", b".x", b".upper", b".host", b"."]
WORDS = [
    *FUSED,
    b"build",
    b"er",
    b"\n",
    b"host",
    b"()",
    *(bytes([b]) for b in b"_abcdefghijklmnopqrstuvwxyz"),
]


class FusedFirst:
    """The first token begins with a point."""

    def start(self, prompt_ids: Sequence[int]) -> bool:
        return True

    def advance(self, state: bool, token_id: int) -> bool:
        return False

    def keep(self, state: bool) -> torch.Tensor | None:
        return torch.arange(len(WORDS) + 1) < len(FUSED) if state else None


def members_that_are(said: str, start: int, checker: Dereference) -> list[bool]:
    """For each dereference that `said` ends after `start`, where members are known."""
    found = []
    for point in re.finditer(r"\.(?=(\w+)\W)", said):
        text = said[: point.end()]
        if point.end() >= start and checker.pre(text) and (known := checker.suggest(text)):
            found.append(point[1] in known)
    return found


def test_no_token_steps_over_the_monitors() -> None:
    """A model that wants anything writes members that exist, in whatever tokens."""
    before, checker = PROGRAM + "y = builder", dereference()
    held: list[bool] = []
    free: list[bool] = []
    for seed in range(7):
        model = spelled_model(WORDS, seed=seed, sharpness=1.0)
        monitors = Together(python_monitors(vocabulary_of(model), Analysis(), before))
        for found, constraints in ((held, (monitors,)), (free, ())):
            steering = Steering(constraints=(FusedFirst(), *constraints))
            made = generate(model, [2], Decode(8, 1.0, seed=seed), steering=steering)
            found += members_that_are(before + made.text, len(before), checker)
    assert len(held) > 3
    assert all(held)
    # Negative control: free, the same models write members that do not exist.
    assert free.count(False) > 3


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 5)), min_size=4, max_size=10))
@settings(max_examples=8, deadline=None)
def test_after_any_rollbacks_masks_are_those_of_a_replay(steps: list[tuple[int, int]]) -> None:
    model = spelled_model(WORDS)
    scores = torch.zeros(model.vocabulary_size)

    def fresh() -> ConstraintTrack:
        return ConstraintTrack(
            python_monitors(vocabulary_of(model), Analysis(), PROGRAM + "y = builder"), [0]
        )

    track, kept = fresh(), list[int]()
    for choice, n_back in steps:
        keep = track.settled(track.n_tokens, scores)
        legal = range(model.vocabulary_size) if keep is None else keep.nonzero()[:, 0].tolist()
        kept.append(legal[choice % len(legal)])
        track.push(kept[-1])
        if n_back < 3:
            kept = kept[: max(0, len(kept) - n_back)]
            track.truncate(len(kept))
    replay = fresh()
    for token in kept:
        replay.push(token)
    for position in range(len(kept) + 1):
        ours, theirs = track.settled(position, scores), replay.settled(position, scores)
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)


def test_questions_are_asked_once_and_from_any_thread() -> None:
    analysis = Analysis()
    found: list[frozenset[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(analysis.names(PROGRAM + "builder.")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert analysis.names(PROGRAM + "builder.") is found[-1] or found[-1]
