"""Static analysis in a process of its own: it says the same, ends, begins again, looks ahead."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from program_toys import ASKED, FIRST
from spelled_toys import spelled_model

from indexes.errors import Cancelled, Unsupported
from rag.answer import Decode
from rag.generate.completion import Program, complete
from rag.generate.monitors.python import analyst as analyst_module
from rag.generate.monitors.python import dereference
from rag.generate.monitors.python.analysis import Analysis
from rag.generate.monitors.python.analyst import Analyst
from rag.generate.monitors.python.analyst_process import Question
from rag.generate.monitors.python.dereference import Dereference
from rag.generate.monitors.python.place import Reader
from rag.generate.monitors.python.warming import warming_texts

CALL = "def called(first, *, second=1): ...\n\ncalled("


@pytest.fixture(scope="module")
def opened() -> Iterator[Analyst]:
    with Analyst() as analyst:
        yield analyst


@pytest.fixture
def exchanged(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """What reached the process."""
    found: list[Question] = []
    exchange = Analyst._exchanged

    def spied(self: Analyst, question: Question) -> bytes | None:
        found.append(question)
        return exchange(self, question)

    monkeypatch.setattr(Analyst, "_exchanged", spied)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_it_says_what_the_analysis_says_whatever_was_foreseen(opened: Analyst, seed: int) -> None:
    rng = random.Random(seed)
    asked = list(ASKED)
    rng.shuffle(asked)
    here, there = Analysis(), opened.open()
    for one in asked:
        for ahead in rng.sample(asked, rng.randrange(3)):
            there.foresee("names", FIRST + ahead)
        assert there.names(FIRST + one) == here.names(FIRST + one), one


@pytest.mark.slow
def test_a_program_has_a_place_and_an_end(opened: Analyst, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("class Thing:\n    first = 1\n")
    text = "import beside\nbeside."
    assert "Thing" in opened.open(tmp_path / "program.py").names(text)
    assert "Thing" not in opened.open().names(text)
    assert "later" in opened.open(None, "class Later:\n    later = 1\n").names(
        "def f():\n    Later."
    )


@pytest.mark.slow
def test_signatures(opened: Analyst) -> None:
    assert opened.open().signatures(CALL) == Analysis().signatures(CALL)
    assert [p.name for p in opened.open().signatures(CALL)[0]] == ["first", "second"]
    assert opened.processor_ms > 0


def test_a_text_is_asked_once(opened: Analyst, exchanged: list[Question]) -> None:
    analysis = opened.open()
    analysis.foresee("signatures", CALL)
    analysis.foresee("signatures", CALL)
    assert analysis.signatures(CALL) == analysis.signatures(CALL) != []
    assert [one.text for one in exchanged] == [CALL]


def test_who_waits_is_served_before_what_is_foreseen(
    opened: Analyst, exchanged: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    exchange = Analyst._exchanged

    def holding(self: Analyst, question: Question) -> bytes | None:
        held.wait()
        return exchange(self, question)

    monkeypatch.setattr(Analyst, "_exchanged", holding)
    analysis = opened.open()
    at_it = opened.ask(Question(10**6, "names", "1 ."))
    analysis.foresee("names", "'a'.")
    analysis.foresee("names", "[].")
    later = opened.ask(Question(10**6, "names", "{}."))
    threading.Timer(0.2, held.set).start()
    assert "append" in analysis.names("[].")
    assert at_it.done()
    assert later.done()
    # The first that was foreseen gave way to the second, which somebody came to wait for.
    assert [one.text for one in exchanged] == ["1 .", "{}.", "[]."]
    assert "upper" in analysis.names("'a'.")


@pytest.mark.slow
def test_another_process_takes_over_from_one_that_ended(caplog: pytest.LogCaptureFixture) -> None:
    with Analyst() as analyst:
        assert "upper" in analyst.open().names("'a'.")
        spent_ms = analyst.processor_ms
        analyst._process.kill()
        analyst._process.wait()
        assert analyst.open().names("'a'.") == frozenset()
        assert "ended over a question" in caplog.text
        assert "upper" in analyst.open().names("'a'.")
        assert analyst.processor_ms > spent_ms


def test_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyst_module, "_COMMAND", ("-c", "pass"))
    with Analyst() as analyst, pytest.raises(Unsupported, match="does not start"):
        analyst.open().names("'a'.")


def test_nobody_waits_for_one_that_is_closed() -> None:
    with Analyst() as analyst:
        analysis = analyst.open()
        waiting = [analyst.ask(Question(0, "names", f"{n} + 'a'.")) for n in range(9)]
    assert analyst._process.returncode is not None
    with pytest.raises(Cancelled):
        analysis.names("'a'.")
    assert all(isinstance(one.exception(10), Cancelled) or one.result() for one in waiting)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_completion_is_the_same(opened: Analyst, seed: int) -> None:
    code = [b"mov", b"first", b"(", b".upper", b"\n", *(bytes([b]) for b in range(32, 127))]
    model = spelled_model(code, seed=seed, sharpness=1.0, context_length=4000)
    program = Program("class Point:\n    first = 'a'\n\np = Point()\nq = p.")
    decode = Decode(12, 1.0, seed=seed)
    here = complete(model, program, decode)
    there = complete(model, program, decode, analyst=opened)
    assert (there.text, there.decode.masked) == (here.text, here.decode.masked)
    assert there.decode.suggestions >= 1


class Heard:
    """An analysis that notes what was foreseen."""

    def __init__(self) -> None:
        self.foreseen: list[str] = []

    def names(self, text: str) -> frozenset[str]:
        return frozenset()

    def signatures(self, text: str) -> list:  # type: ignore[type-arg]
        return []

    def foresee(self, kind: str, text: str) -> None:
        self.foreseen.append(text)


@pytest.mark.parametrize(
    ("text", "is_foreseen"),
    [
        ("p.x\nq = p", True),
        ("p.x\nq = (p", True),
        ("q = p", False),
        ("p.x\nq = 'p", False),
        ("p.x\nq = p ", False),
        ("self.x\nself", False),
        ("self.x\nq = self", True),
    ],
)
def test_points_that_are_foreseen(
    monkeypatch: pytest.MonkeyPatch, text: str, is_foreseen: bool
) -> None:
    monkeypatch.setattr(dereference, "WORTH_S", 0.0)
    heard = Heard()
    Dereference(heard, Reader()).foresee(text)
    assert heard.foreseen == ([f"{text}."] if is_foreseen else [])


def test_none_are_where_tokens_come_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dereference, "WORTH_S", 60.0)
    heard = Heard()
    Dereference(heard, Reader()).foresee("p.x\nq = p")
    assert heard.foreseen == []


@pytest.mark.slow
def test_it_warms_itself_while_nobody_asks() -> None:
    """The standard library's biggest module is as quick as any later question."""
    text = "import asyncio\nasyncio."
    with Analyst() as analyst:
        analyst.warm()
        began = time.perf_counter()
        assert analyst.open().names(text) == Analysis().names(text)
        warm_ms = analyst.processor_ms
        analyst.warm()
        assert analyst.processor_ms - warm_ms < 1000
        assert time.perf_counter() - began < 60


@pytest.mark.slow
def test_what_is_asked_meanwhile_is_answered() -> None:
    with Analyst() as analyst:
        asked = analyst.open()
        assert asked.names("import os\nos.") >= {"path", "getcwd"}
        time.sleep(0.5)
        assert asked.names(CALL[: CALL.index("\n")] + "\n\n''.") >= {"upper"}
        analyst.warm()


def test_everything_it_warms_is_there() -> None:
    """Spelled right: each program can be run, but for the point that it ends in."""
    for text in warming_texts():
        program = {"__file__": __file__}
        exec(compile(text.removesuffix("."), "warming", "exec"), program)
        getattr(program.get("value"), "close", lambda: None)()
