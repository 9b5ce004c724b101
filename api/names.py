"""Names of indexes as they come in a path."""

from __future__ import annotations

import re

from indexes.errors import IndexNotFound

INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def checked_name(name: str) -> str:
    """The name, if an index can bear it at all. Raises `IndexNotFound`."""
    if not INDEX_NAME.fullmatch(name):
        raise IndexNotFound(f"no index can be called {name[:64]!r}")
    return name
