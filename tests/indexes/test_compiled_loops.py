"""Compiled code that is kept, and made anew when something that it holds has changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from indexes.compiled_loops import compiler

INNER = """
from pathlib import Path
from indexes.compiled_loops import compiler

compiled = compiler({sources})

@compiled
def inner(value):
    return value + {added}
"""
OUTER = """
from inner import compiled, inner

@compiled
def outer(value):
    return inner(value)

print(outer(1))
"""
BOTH = '*(Path(__file__).with_name(f"{name}.py") for name in ("inner", "outer"))'


def answer(folder: Path) -> int:
    """What a new process finds, with what an earlier one has kept there."""
    command = [sys.executable, "outer.py"]
    root = str(Path(__file__).parents[2])
    environment = {"PYTHONPATH": root, "NUMBA_CACHE_DIR": str(folder / "kept")}
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("sources", "found"), [(BOTH, 11), ("", 3)])
def test_what_calls_changed_code_is_compiled_anew(tmp_path: Path, sources: str, found: int) -> None:
    """Without the sources numba sees that `outer.py` is the same, and is wrong."""
    (tmp_path / "outer.py").write_text(OUTER)
    (tmp_path / "inner.py").write_text(INNER.format(sources=sources, added=2))
    assert answer(tmp_path) == 3
    assert list((tmp_path / "kept").rglob("*.nbi"))
    (tmp_path / "inner.py").write_text(INNER.format(sources=sources, added=10))
    assert answer(tmp_path) == found


TAKES_A_CLASS = """
from typing import NamedTuple
from indexes.compiled_loops import compiler

class {name}(NamedTuple):
    value: int

@compiler()
def outer(one):
    return one.value + {added}

print(outer({name}(1)))
"""


@pytest.mark.slow
def test_what_is_kept_may_name_a_class_that_is_no_more(tmp_path: Path) -> None:
    for name, added in [("One", 2), ("Other", 10), ("Other", 10)]:
        (tmp_path / "module.py").write_text(TAKES_A_CLASS.format(name=name, added=added))
        (tmp_path / "outer.py").write_text("import module")
        assert answer(tmp_path) == 1 + added


def test_compiling_is_logged_and_calling_again_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "loops.py"
    source.write_text("def twice(value):\n    return 2 * value\n")
    found: dict[str, Any] = {}
    exec(compile(source.read_text(), str(source), "exec"), found)
    twice = compiler()(found["twice"])
    with caplog.at_level("INFO", "indexes.compiled_loops"):
        assert twice(4) == 8
        assert [one.getMessage() for one in caplog.records] == [
            "compiling twice for this processor"
        ]
        assert twice(5) == 10
        assert len(caplog.records) == 1
