"""Dereferences of real programs: modules of installed typed packages, cut after a point.

Nothing of it is stored: what is measured is what is installed where it is measured.
"""

from __future__ import annotations

import ast
import random
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

import msgspec

from indexes.errors import InvalidInput
from rag.generate.completion import Program, program_at
from rag.generate.monitors.python.analyst import Analyst
from rag.generate.monitors.python.dereference import Dereference
from rag.generate.monitors.python.place import Reader
from rag.progress import Progress

PACKAGES = (
    "anyio",
    "click",
    "h11",
    "httpx",
    "huggingface_hub",
    "Jinja2",
    "litestar",
    "markdown-it-py",
    "packaging",
    "pypdf",
    "rich",
    "uvicorn",
)
"""Typed packages that come with this one."""

SITES_PER_MODULE = 3
MIN_LINES = 15
"""Lines before a site, at least."""

MODULE_BYTES = (2_000, 60_000)


class Site(msgspec.Struct, frozen=True):
    """`program.before` ends in a point, and `name` came next; `known` are the members there.

    `known_ms` is how long it took to find them, nothing of the program being known before.
    """

    id: str
    package: str
    program: Program
    name: str
    known: frozenset[str]
    known_ms: float = 0.0


class Cut(msgspec.Struct, frozen=True):
    """The sites whose members are known, among `n_tried`."""

    sites: list[Site]
    n_tried: int


def cut_sites(
    packages: Sequence[str], n_sites: int, seed: int, analyst: Analyst, progress: Progress
) -> Cut:
    """`n_sites` sites, as evenly over the packages as they have them, drawn by `seed`.

    Raises `InvalidInput` for a package that is not installed or not typed.
    """
    streams = {name: _sites(name, modules(name), random.Random(seed), analyst) for name in packages}
    found: list[Site] = []
    n_tried = 0
    progress.start("cutting sites", n_sites, "site")
    while streams and len(found) < n_sites:
        for name in list(streams):
            site = next(streams[name], None)
            if site is None:
                del streams[name]
                continue
            n_tried += 1
            if site.known and len(found) < n_sites:
                found.append(site)
                progress.advance(1)
    progress.finish()
    return Cut(found, n_tried)


def modules(package: str) -> list[Path]:
    """The modules of a typed package, tests left out, in a stable order."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError as error:
        raise InvalidInput(f"{package} is not installed") from error
    if not any(file.name == "py.typed" for file in files):
        raise InvalidInput(f"{package} is not typed: it has no py.typed")
    return [
        Path(str(file.locate()))
        for file in sorted(files)
        if file.suffix == ".py" and "test" not in str(file) and "_vendor" not in file.parts
    ]


def _sites(
    package: str, modules: list[Path], rng: random.Random, analyst: Analyst
) -> Iterator[Site]:
    rng.shuffle(modules)
    return chain.from_iterable(_of_module(package, path, rng, analyst) for path in modules)


def _of_module(package: str, path: Path, rng: random.Random, analyst: Analyst) -> Iterator[Site]:
    least, most = MODULE_BYTES
    if not (path.exists() and least <= path.stat().st_size <= most):
        return
    source = path.read_text(encoding="utf-8")
    places = dereferences(source)
    for line, column, name in rng.sample(places, min(SITES_PER_MODULE, len(places))):
        program = program_at(source, line, column, path)
        key = f"{package}/{path.name}:{line}:{column}"
        began = time.perf_counter()
        known = members(program, analyst)
        known_ms = (time.perf_counter() - began) * 1000
        yield Site(key, package, program, name, known, known_ms)


def dereferences(source: str) -> list[tuple[int, int, str]]:
    """Line and column, from 1 on, after the point of each attribute that is read, and its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        tree = ast.parse(source)
    lines = source.split("\n")
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        line, end = node.end_lineno or 0, node.end_col_offset or 0
        # Offsets are of bytes; within f-strings they may be of nothing at all.
        text = lines[line - 1].encode()[:end].decode(errors="replace") if line else ""
        if line > MIN_LINES and text.endswith(f".{node.attr}"):
            found.append((line, len(text) - len(node.attr) + 1, node.attr))
    return sorted(found)


def members(program: Program, analyst: Analyst) -> frozenset[str]:
    """What the monitor would suggest there; nothing where it would not know."""
    reader = Reader(program.before)
    monitor = Dereference(analyst.open(program.path, program.after), reader)
    return monitor.suggest(program.before) if monitor.pre(program.before) else frozenset()
