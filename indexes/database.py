"""DuckDB, opened so that a database can reach nothing but its own file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

LOCKED_DOWN: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "threads": "1",
    "lock_configuration": "true",
}


def open_database(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A connection to one sealed file; no other file, extension or setting is in its reach."""
    import duckdb

    return duckdb.connect(str(path), read_only=read_only, config=dict(LOCKED_DOWN))
