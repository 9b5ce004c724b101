"""Who may pass: every route names the scope it needs, a request brings a key in its header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from api.endpoint import OPT_KEY, SCOPE_KEY, Endpoint
from rag.keys import Key, Scope, allows, holder, keys_file, read_keys

CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Gate:
    """Owns what is known of the keys; follows their file, so that a revoked key ends at once.

    Keys are asked for from the first one that was made, or always if `required`. Without a `root`
    there are no keys.
    """

    def __init__(self, root: Path | None = None, *, required: bool = False) -> None:
        self._root = root
        self._required = required
        self._stamp: tuple[int, int] | None = None
        self._keys: list[Key] = []

    def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], route: Any) -> None:
        """The guard of all routes. Raises 401 without a key that works, 403 beyond its scope."""
        scope = scope_of(route)
        if scope is None or not self._closed():
            return
        key = holder(self._keys, _token(connection))
        if key is None:
            raise NotAuthorizedException(
                detail="a key is needed: Authorization: Bearer KEY", headers=CHALLENGE
            )
        if not allows(key, scope):
            raise PermissionDeniedException(
                detail=f"this needs a key with the scope {scope}, not {key.scope}"
            )

    def _closed(self) -> bool:
        """Whether keys are asked for, after a look at their file; once closed it stays closed."""
        if self._root is None:
            return self._required
        stamp = _stamp(keys_file(self._root))
        if stamp != self._stamp:
            self._keys = read_keys(self._root)
            self._stamp = stamp
        self._required = self._required or bool(self._keys)
        return self._required


def scope_of(route: BaseRouteHandler) -> Scope | None:
    """The scope that a route needs: what it says, None for everybody; admin if it says nothing."""
    endpoint: Endpoint | None = route.opt.get(OPT_KEY)
    return route.opt.get(SCOPE_KEY, "admin") if endpoint is None else endpoint.scope


def _token(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _stamp(file: Path) -> tuple[int, int] | None:
    """Changes whenever the file was replaced; None while there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return (status.st_mtime_ns, status.st_ino)
