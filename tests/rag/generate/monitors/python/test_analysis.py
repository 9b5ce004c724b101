"""Static analysis that remembers against the library as it comes."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from program_toys import ASKED, FIRST, slow, write

from eval.code_sites import dereferences, modules
from rag.generate.completion import program_at
from rag.generate.monitors.python import library, members
from rag.generate.monitors.python.analysis import Analysis


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_it_answers_as_the_library_does(seed: int) -> None:
    analysis = Analysis()
    asked = ASKED * 2
    random.Random(seed).shuffle(asked)
    text = FIRST
    for one in asked:
        assert analysis.names(text + one) == slow(text + one), one
        text += f"v{len(text)} = 1\n"


@pytest.mark.slow
@pytest.mark.parametrize("package", ["h11", "click", "rich", "packaging", "anyio"])
def test_so_it_does_in_real_programs_that_are_written_on(package: str) -> None:
    """Four places of a module, one after the other; the first question warms what others use."""
    rng = random.Random(package)
    paths = [p for p in modules(package) if 2_000 < p.stat().st_size < 15_000]
    n_asked = 0
    for path in rng.sample(paths, min(3, len(paths))):
        source = path.read_text(encoding="utf-8")
        places = dereferences(source)
        if len(places) < 4:
            continue
        first = rng.randrange(len(places) - 3)
        chosen = places[first : first + 4]
        after = program_at(source, *chosen[-1][:2], path).after
        analysis = Analysis(path, after)
        for line, column, _ in chosen:
            before = program_at(source, line, column, path).before
            wanted = slow(before, after, path)
            assert analysis.names(before) == wanted, (path, line, column)
            # Another request for the same program goes on with what this one imported.
            assert Analysis(path, after).names(before) == wanted, (path, line, column)
            n_asked += 1
    assert n_asked >= 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_so_it_does_request_after_request(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    asked = random.Random(seed).sample(ASKED, len(ASKED))
    text = FIRST
    for one in asked:
        assert Analysis(path).names(text + one) == slow(text + one, path=path), one
        text += f"v{len(text)} = 1\n"


def test_what_is_remembered_is_not_listed_again(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from jedi.inference.value.klass import ClassFilter

    listed: list[Any] = []
    values = ClassFilter.values

    def spied(self: Any) -> Any:
        listed.append(self)
        return values(self)

    monkeypatch.setattr(ClassFilter, "values", spied)
    monkeypatch.setattr(members, "_remembered", type(members._remembered)())
    own = "class Mine(str):\n    size = 1\n\n"
    first = Analysis().names(f"{own}Mine().")
    n_first = len(listed)
    listed.clear()
    assert Analysis().names(f"{own}a = 1\nMine().") == first
    # Only what stands in the program itself.
    assert 0 < len(listed) < n_first
    assert {"size", "upper"} <= first


def test_a_class_of_the_program_is_never_remembered() -> None:
    analysis = Analysis()
    text = "class Mine:\n    first = 1\n"
    assert "first" in analysis.names(f"{text}Mine.")
    changed = "class Mine:\n    other = 1\n"
    assert "first" not in analysis.names(f"{changed}Mine.")
    assert "other" in analysis.names(f"{changed}Mine.")


@pytest.mark.slow
def test_not_more_than_so_many_are_remembered(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(members, "MAX_SCOPES", 3)
    monkeypatch.setattr(members, "_remembered", type(members._remembered)())
    for text in ("'a'.", "1 .", "[].", "import re\nre.", "'a'."):
        assert Analysis().names(text) == slow(text)
    assert len(members._remembered) == 3


def test_a_module_that_changed_is_read_anew(tmp_path: Path) -> None:
    beside = tmp_path / "beside.py"
    program = tmp_path / "program.py"
    for name in ("first", "other"):
        beside.write_text(f"class Thing:\n    {name} = 1\n")
        # The library looks at the time of the last change, which may be counted in seconds.
        stamp = 1_000_000 if name == "first" else 2_000_000
        os.utime(beside, (stamp, stamp))
        assert name in Analysis(program).names("import beside\nbeside.Thing.")
    assert "first" not in Analysis(program).names("import beside\nbeside.Thing.")


def package(tmp_path: Path) -> tuple[Path, Path]:
    """A program in a package of its own, and a module of another package that it can import."""
    program, other = tmp_path / "own" / "program.py", tmp_path / "other" / "things.py"
    for one in (program, other):
        write(one.parent / "__init__.py", "", 1_000_000)
    return program, other


def test_what_another_package_holds_is_inferred_once_for_many_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jedi.inference import imports

    program, other = package(tmp_path)
    write(other, "class Thing:\n    first = 1\n", 1_000_000)
    loaded: list[str] = []
    load = imports._load_python_module

    def spied(state: Any, file_io: Any, **more: Any) -> Any:
        loaded.append(Path(file_io.path).name)
        return load(state, file_io, **more)

    monkeypatch.setattr(imports, "_load_python_module", spied)
    text = "from other.things import Thing\nThing."
    for n_before in range(3):
        assert "first" in Analysis(program).names("\n" * n_before + text)
    assert loaded.count("things.py") == 1
    write(other, "class Thing:\n    other = 1\n", 2_000_000)
    assert "first" not in Analysis(program).names(text)
    assert "other" in Analysis(program).names("a = 1\n" + text)
    assert loaded.count("things.py") == 2


def test_a_module_beside_the_program_sees_it_as_it_is(tmp_path: Path) -> None:
    program, _ = package(tmp_path)
    beside = program.parent / "beside.py"
    write(beside, "from own.program import Mine\n\ndef made() -> Mine: ...\n", 1_000_000)
    for name in ("first", "other"):
        text = f"from own import beside\n\nclass Mine:\n    {name} = 1\n\nbeside.made()."
        assert name in Analysis(program).names(text)


def test_a_module_that_was_not_there_is_found_later(tmp_path: Path) -> None:
    program, other = package(tmp_path)
    text = "from other.things import Thing\nThing."
    assert "first" not in Analysis(program).names(text)
    write(other, "class Thing:\n    first = 1\n", 1_000_000)
    assert "first" in Analysis(program).names(text)


def test_not_more_than_so_many_programs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "MAX_PROGRAMS", 2)
    monkeypatch.setattr(library, "_kept", type(library._kept)())
    for name in "abca":
        Analysis(tmp_path / f"{name}.py")
    assert [path.name for path in library._kept] == ["c.py", "a.py"]
