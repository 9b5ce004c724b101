"""Loops that numba compiles once and keeps beside their source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiler(*sources: Path, **options: Any) -> Callable[[Function], Function]:
    """A decorator: the function, compiled when first called with arguments of a kind.

    It lets go of the interpreter's lock. numba keeps compiled code until the file of the function
    changes, though it holds what was called in other files too: with `sources`, all files whose
    compiled functions call each other's, it is kept until one of them changes.
    """

    def compiled(function: Function) -> Function:
        try:
            found = numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # no folder to keep the compiled code in
            return numba.njit(nogil=True, **options)(function)  # type: ignore[no-any-return]
        if sources:
            found._cache._cache_file._source_stamp = _digest(sources)
        return found  # type: ignore[no-any-return]

    return compiled


@cache
def _digest(sources: tuple[Path, ...]) -> str:
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
