"""What one program imports, inferred once for all questions about it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

MAX_PROGRAMS = 16
"""Programs whose imports are kept: those that were asked about last."""

_kept: OrderedDict[Path, Library] = OrderedDict()


class Library:
    """Modules that were imported for one `jedi.Script`, lent to the next one of the same program.

    Every script infers what it imports anew: bases of classes, types of what functions return. Of
    modules in files that is the same for each question, and a value keeps all that was inferred of
    it. A module that imports the program itself sees it as it was at the first question.
    """

    def __init__(self) -> None:
        self._modules: dict[tuple[str, ...], Any] = {}
        self._stubs: dict[tuple[str, ...], Any] = {}
        self._changed: dict[Path, int | None] = {}

    def lend(self, script: Any) -> None:
        """Let `script`, which has not been asked yet, find the modules."""
        for state in {module.inference_state for module in self._all()}:
            # The library counts inferences to find the ones that never end; each question anew.
            state.inferred_element_counts.clear()
            state.reset_recursion_limitations()
        own = script._inference_state
        own.module_cache._name_cache.update(self._modules)
        own.stub_module_cache.update(self._stubs)

    def take(self, script: Any) -> None:
        """Keep the modules that `script` has imported."""
        own, state = script._get_module(), script._inference_state
        for name, modules in state.module_cache._name_cache.items():
            if name not in self._modules and all(module is not own for module in modules):
                self._modules[name] = modules
                self._note(modules)
        for name, stub in state.stub_module_cache.items():
            if stub is not None and name not in self._stubs:
                self._stubs[name] = stub
                self._note([stub])

    def outside(self, home: Path) -> Library:
        """The modules that do not lie in `home`; none, once the file of one of them has changed.

        What lies beside the program may import it, and must not see it as it was long ago; and what
        could not be found may be there by now.
        """
        other = Library()
        changed = {path: at for path, at in self._changed.items() if home not in path.parents}
        if all(_changed_at(path) == at for path, at in changed.items()):
            other._modules = {n: m for n, m in self._modules.items() if m and not _lie_in(home, m)}
            other._stubs = {n: m for n, m in self._stubs.items() if not _lie_in(home, [m])}
            other._changed = changed
        return other

    def _note(self, modules: Iterable[Any]) -> None:
        for path in _files(modules):
            self._changed.setdefault(path, _changed_at(path))

    def _all(self) -> list[Any]:
        """Each is a value that belongs to the state of the script that imported it."""
        return [*chain.from_iterable(self._modules.values()), *self._stubs.values()]


def library_of(path: Path | None) -> Library:
    """The library of the program at `path`: the last request's, where it is still right.

    Hold the lock of the analysis. A program without a place gets a new one.
    """
    if path is None:
        return Library()
    path = path.absolute()
    library = _kept.pop(path, Library()).outside(home_of(path))
    _kept[path] = library
    if len(_kept) > MAX_PROGRAMS:
        _kept.popitem(last=False)
    return library


def root_of(path: Path) -> Path:
    """The folder that the program's own package, if it is part of one, lies in."""
    return next(one for one in path.absolute().parents if not (one / "__init__.py").exists())


def home_of(path: Path) -> Path:
    """The program's outermost package, or the folder that it lies in."""
    root = root_of(path)
    first = root / path.absolute().relative_to(root).parts[0]
    return first if first != path.absolute() else root


def _lie_in(home: Path, modules: Iterable[Any]) -> bool:
    return any(home in path.parents for path in _files(modules))


def _files(modules: Iterable[Any]) -> list[Path]:
    return [Path(path) for one in modules if (path := one.py__file__()) is not None]


def _changed_at(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
