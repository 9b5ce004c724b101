"""API keys: random tokens of which only a digest is kept, each with what it may do.

A token has 256 random bits, so one fast digest is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec

from indexes.errors import EvidentError, NotFound
from indexes.files import write_durably
from indexes.lock import writer_lock

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each scope may do all that those before it may."""

PREFIX = "evident"
FOLDER = ".keys"
FILE = "keys.json"


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a key. `revoked` is when it stopped working, empty while it works."""

    id: str
    name: str
    scope: Scope
    created: str
    sha256: str
    revoked: str = ""


def keys_file(root: Path) -> Path:
    """Where the keys of the indexes under `root` are kept."""
    return root / FOLDER / FILE


def read_keys(root: Path) -> list[Key]:
    """All keys, the revoked among them. Raises `EvidentError` when the file cannot be read."""
    file = keys_file(root)
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Key])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise EvidentError(f"the API keys in {file} cannot be read") from error


def create_key(root: Path, name: str, scope: Scope) -> tuple[Key, str]:
    """A new key and its token, which is nowhere else to be had afterwards.

    Raises `IndexLocked` while another process changes the keys.
    """
    token = f"{PREFIX}_{secrets.token_urlsafe(32)}"
    with _changed(root) as keys:
        key = Key(secrets.token_hex(4), name, scope, _now(), digest_of(token))
        keys.append(key)
    return key, token


def revoke_key(root: Path, key_id: str) -> Key:
    """Stop a key from working; it stays listed, so that the last one does not open the doors.

    Raises `NotFound`, and `IndexLocked` while another process changes the keys.
    """
    with _changed(root) as keys:
        for place, key in enumerate(keys):
            if key.id == key_id:
                keys[place] = msgspec.structs.replace(key, revoked=key.revoked or _now())
                return keys[place]
        raise NotFound(f"there is no key {key_id!r}")


def holder(keys: Sequence[Key], token: str) -> Key | None:
    """The working key of this token. Every key is compared, each in constant time."""
    digest = digest_of(token)
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest) and not key.revoked:
            found = key
    return found


def allows(key: Key, scope: Scope) -> bool:
    """Whether the key may do what needs this scope."""
    return SCOPES.index(key.scope) >= SCOPES.index(scope)


def digest_of(token: str) -> str:
    """SHA-256 of a token, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def _changed(root: Path) -> Iterator[list[Key]]:
    """The keys to change; written when the block ends without an error."""
    folder = keys_file(root).parent
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with writer_lock(folder):
        keys = read_keys(root)
        yield keys
        write_durably(keys_file(root), msgspec.json.format(msgspec.json.encode(keys)))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
