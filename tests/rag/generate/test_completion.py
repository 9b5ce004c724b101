"""Code written on from a cursor: the place, the word it stands in, the monitors, the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spelled_toys import spelled_model

from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.cli.main import main
from rag.generate.completion import Program, complete, program_at
from rag.generate.monitors.begun import begun_automaton
from rag.generate.monitors.python.analysis import Analysis
from rag.generate.monitors.python.program import PYTHON_MONITORS
from rag.generate.torch_model import TorchModel

SOURCE = """\
class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def moved(self, dx: int, dy: int) -> "Point":
        return Point(self.x + dx, self.y + dy)


p = Point(1, 2)
q = p.
print(q)
"""
LINE = 10
MEMBERS = {"moved", "x", "y", *dir(object), "__dict__", "__module__", "__annotations__"}
CODE = [b"mov", b"moved(", b".moved", b"\n", *(bytes([b]) for b in range(32, 127))]


def word_of(text: str) -> str:
    found = re.match(r"\w*", text)
    return found[0] if found else ""


def test_the_program_is_cut_before_the_character() -> None:
    program = program_at(SOURCE, LINE, 7)
    assert program.before.endswith("\nq = p.")
    assert program.after == "print(q)\n"
    assert program_at("ab\ncd", 1, 1) == Program("", "cd")
    assert program_at("ab\ncd", 2, 3) == Program("ab\ncd", "")
    assert program_at("", 1, 1) == Program("", "")


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [(0, 1, "line 0"), (13, 1, "12 lines"), (1, 0, "column 0"), (9, 17, "columns 1 to 16")],
)
def test_a_place_that_is_none(line: int, column: int, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        program_at(SOURCE, line, column)


@pytest.mark.slow
def test_a_member_is_one_that_exists() -> None:
    program = program_at(SOURCE, LINE, 7)
    words = []
    for seed in range(20):
        model = spelled_model(CODE, seed=seed, sharpness=1.0, context_length=4000)
        made = complete(model, program, Decode(6, 1.0, seed=seed))
        word = word_of(made.text)
        words.append(word)
        assert any(one.startswith(word) for one in MEMBERS)
        assert made.decode.suggestions >= 1
        assert made.decode.masked >= 1
        assert made.decode.monitors == list(PYTHON_MONITORS)
    assert {"moved", "x", "y"} & set(words)


def test_without_monitors_it_is_anything() -> None:
    """Negative control."""
    program = program_at(SOURCE, LINE, 7)
    words = set()
    for seed in range(12):
        model = spelled_model(CODE, seed=seed, sharpness=1.0, context_length=4000)
        made = complete(model, program, Decode(6, 1.0, seed=seed), monitors=[])
        words.add(word_of(made.text))
        assert (made.decode.masked, made.decode.monitors) == (0, [])
    assert any(not any(one.startswith(word) for one in MEMBERS) for word in words)


@pytest.mark.slow
@pytest.mark.parametrize("begun", ["m", "mov", "moved"])
def test_the_word_of_the_cursor_goes_on(begun: str) -> None:
    """It is written anew, is not told twice, and becomes a member."""
    program = program_at(SOURCE.replace("q = p.", f"q = p.{begun}"), LINE, 7 + len(begun))
    for seed in range(6):
        pieces: list[str] = []
        model = spelled_model(CODE, seed=seed, sharpness=1.0, context_length=4000)
        made = complete(model, program, Decode(8, 1.0, seed=seed), on_text=pieces.append)
        assert "moved".startswith(word_of(begun + made.text))
        assert "".join(pieces) == made.text


@given(st.text("ab\tc é", min_size=1, max_size=8), st.integers(0, 999))
def test_what_has_begun_is_written_first(text: str, seed: int) -> None:
    automaton = begun_automaton(text)
    assert automaton.accepts(automaton.read(0, text.encode() + str(seed).encode()))
    assert automaton.read(0, b"#" + text.encode()) < 0
    assert not automaton.accepts(automaton.read(0, text.encode()[:-1]))


def test_nothing_has_begun() -> None:
    with pytest.raises(ValueError, match="nothing"):
        begun_automaton("")


def test_only_the_end_of_a_long_program_is_read(tiny: TorchModel) -> None:
    program = Program("x = 1\n" * 40)
    made = complete(tiny, program, Decode(4), monitors=[], prompt_tokens=1024)
    assert made.truncated
    assert made.usage.prompt_tokens == tiny.context_length - 4
    assert not complete(tiny, Program("x"), Decode(4), monitors=[]).truncated
    with pytest.raises(InvalidInput, match="no room"):
        complete(tiny, program, Decode(tiny.context_length), monitors=[])


def test_an_empty_program_can_be_begun(tiny: TorchModel) -> None:
    assert complete(tiny, Program(""), Decode(3)).usage.completion_tokens == 3


def test_another_monitor_is_refused(tiny: TorchModel) -> None:
    with pytest.raises(InvalidInput, match="'spelling'"):
        complete(tiny, Program("x"), Decode(3), monitors=["spelling"])


def test_a_package_of_ones_own_is_imported(tmp_path: Path) -> None:
    inner = tmp_path / "ours" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "ours" / "__init__.py").touch()
    (inner / "__init__.py").touch()
    (tmp_path / "ours" / "wheel.py").write_text("def turn_round() -> int:\n    return 1\n")
    for line in ("from ours import wheel", "from .. import wheel"):
        names = Analysis(inner / "main.py").names(f"{line}\nwheel.")
        assert "turn_round" in names


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "point.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.slow
def test_the_command(program, tiny_long_folder, monkeypatch, capsys) -> None:
    monkeypatch.setenv("RAG_GENERATOR", str(tiny_long_folder))
    command = ["complete", f"{program}:{LINE}:7", "--max-tokens", "6", "--threads", "1"]
    assert main([*command, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert any(one.startswith(word_of(made["text"])) for one in MEMBERS)
    assert made["decode"]["monitors"] == list(PYTHON_MONITORS)
    assert main(command) == 0
    shown = capsys.readouterr()
    assert shown.out == made["text"] + "\n"
    assert "sets of suggestions" in shown.err
    assert main([*command, "--monitor", "dereference", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decode"]["monitors"] == ["dereference"]
    assert main([*command, "--no-monitors", "--json"]) == 0
    free = json.loads(capsys.readouterr().out)
    assert (free["decode"]["monitors"], free["decode"]["masked"]) == ([], 0)


@pytest.mark.parametrize(
    ("place", "flags", "code", "reason"),
    [
        ("none.py:1:1", [], 1, "there is no file"),
        ("point.py:99:1", [], 1, "line 99"),
        ("point.py:1:99", [], 1, "column 99"),
        ("point.py:1", [], 2, "FILE:LINE:COL"),
        ("point.py:a:1", [], 2, "FILE:LINE:COL"),
        ("point.py:1:1", ["--monitor", "spelling"], 1, "spelling"),
        ("point.py:1:1", ["--max-tokens", "0"], 2, "max_tokens"),
        ("point.txt:1:1", [], 2, "--no-monitors"),
        (".:1:1", ["--no-monitors"], 2, "cannot read"),
    ],
)
def test_errors_are_sentences(
    program, tiny_long_folder, monkeypatch, capsys, place, flags, code, reason
) -> None:
    monkeypatch.chdir(program.parent)
    monkeypatch.setenv("RAG_GENERATOR", str(tiny_long_folder))
    assert main(["complete", place, *flags]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert reason in captured.err
