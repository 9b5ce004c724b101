"""The root folder that holds indexes, and the aliases that point at them."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from indexes.errors import IndexNotFound, UsageError
from indexes.files import write_durably
from indexes.manifest import MANIFEST

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
ALIASES = "aliases.json"


def check_name(name: str) -> str:
    """The name if it is well formed. Raises `UsageError`."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} is no index name: use up to 64 of a-z, 0-9, - and _, "
            "beginning with a letter or digit"
        )
    return name


def index_folder(root: Path, name: str) -> Path:
    """Where the index of this name lives, whether or not it exists. Symbolic links are refused."""
    folder = root / check_name(name)
    if folder.is_symlink():
        raise UsageError(f"the index folder {name!r} is a symbolic link")
    return folder


def index_names(root: Path) -> list[str]:
    """Names of the committed indexes under the root, sorted."""
    if not root.is_dir():
        return []
    return sorted(
        child.name
        for child in root.iterdir()
        if NAME.fullmatch(child.name) and not child.is_symlink() and (child / MANIFEST).is_file()
    )


def read_aliases(root: Path) -> dict[str, str]:
    """Alias → index name."""
    try:
        return msgspec.json.decode((root / ALIASES).read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise UsageError(f"{ALIASES} in the index root cannot be read: {error}") from error


def resolve_alias(root: Path, name: str) -> str:
    """The index that a name means: an index of that name comes before an alias."""
    if (root / check_name(name) / MANIFEST).is_file():
        return name
    return read_aliases(root).get(name, name)


def set_alias(root: Path, alias: str, target: str | None) -> None:
    """Point an alias at an index, or remove it with None. Atomic: readers see old or new.

    Raises `UsageError` for a name that an index has, `IndexNotFound` for a missing target.
    """
    check_name(alias)
    names = index_names(root)
    if alias in names:
        raise UsageError(f"{alias!r} is the name of an index, so it cannot be an alias")
    aliases = read_aliases(root)
    if target is None:
        if aliases.pop(alias, None) is None:
            raise IndexNotFound(f"there is no alias {alias!r}")
    elif check_name(target) not in names:
        raise IndexNotFound(f"there is no index {target!r}")
    else:
        aliases[alias] = target
    write_durably(root / ALIASES, msgspec.json.format(msgspec.json.encode(aliases)))
