"""What builds over REST may read: what lies in one folder, by name."""

from __future__ import annotations

from pathlib import Path

from indexes.errors import UsageError


def input_path(folder: Path | None, name: str) -> Path:
    """A file or folder that the server may read. Raises `UsageError` for anything else."""
    path = None if folder is None else folder / name
    if path is None or path.is_symlink() or not path.exists():
        raise UsageError(f"there is no input {name!r}")
    return path
