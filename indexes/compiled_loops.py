"""Loops that numba compiles once and keeps beside their source; that it does is logged."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import event

logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])


def compiler(*sources: Path, **options: Any) -> Callable[[Function], Function]:
    """A decorator: the function, compiled when first called with arguments of a kind.

    It lets go of the interpreter's lock. numba keeps compiled code until the file of the function
    changes, though it holds what was called in other files too: with `sources`, all files whose
    compiled functions it may call, it is kept until one of them or its own changes.
    """

    def compiled(function: Function) -> Function:
        try:
            found = numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # no folder to keep the compiled code in
            return numba.njit(nogil=True, **options)(function)  # type: ignore[no-any-return]
        kept = found._cache._cache_file
        kept._load_index = partial(_index_or_nothing, kept._load_index)
        if sources:
            own = Path(function.__code__.co_filename)
            kept._source_stamp = _digest((*sources, own))
        return found  # type: ignore[no-any-return]

    return compiled


def _index_or_nothing(load_index: Callable[[], dict[Any, Any]]) -> dict[Any, Any]:
    """What is kept of a function, nothing where that names a class that is no more.

    numba reads the index before it sees that the source has changed.
    """
    try:
        return load_index()
    except (AttributeError, ImportError):
        return {}


@cache
def _digest(sources: tuple[Path, ...]) -> str:
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


class _Compilations(event.Listener):  # type: ignore[misc]
    """Logs each function that is compiled, before it is: that takes up to some seconds."""

    def on_start(self, begun: event.Event) -> None:
        """Log the function."""
        logger.info("compiling %s for this processor", begun.data["dispatcher"].py_func.__name__)

    def on_end(self, ended: event.Event) -> None:
        """Nothing: numba asks for it, and how long it took is nobody's question."""


event.register("numba:compile", _Compilations())
