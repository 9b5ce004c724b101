"""`rag keys create|list|revoke`: who may use the REST API, and for what."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from rag.cli.output import print_json, wants_json
from rag.keys import SCOPES

if TYPE_CHECKING:
    from rag.config import Settings
    from rag.keys import Key

HELP = "create, list and revoke keys of the REST API"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag keys` and its actions."""
    parser = subparsers.add_parser("keys", help=HELP, description=HELP, parents=[common])
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    text = "make a key and show its token, once; from the first key on the API asks for one"
    creating = actions.add_parser("create", help=text, description=text, parents=[common])
    creating.add_argument("name", metavar="NAME", help="whose key it is, for the list")
    creating.add_argument(
        "--scope",
        choices=SCOPES,
        default="read",
        help="read: search and answer; write: documents too; admin: builds and aliases too "
        "(default: %(default)s)",
    )
    creating.set_defaults(run=_create)

    text = "every key that was made; never its token"
    listing = actions.add_parser("list", help=text, description=text, parents=[common])
    listing.set_defaults(run=_list)

    text = "stop a key from working, at once"
    revoking = actions.add_parser("revoke", help=text, description=text, parents=[common])
    revoking.add_argument("id", metavar="ID", help="as `rag keys list` shows it")
    revoking.set_defaults(run=_revoke)


def _create(args: argparse.Namespace, settings: Settings) -> int:
    from rag.keys import create_key

    key, token = create_key(settings.root, args.name, args.scope)
    if wants_json(args):
        print_json({**_shown(key), "token": token})
        return 0
    sys.stderr.write(f"key {key.id} ({key.scope}) for {key.name}; this is shown only now:\n")
    print(token)
    return 0


def _list(args: argparse.Namespace, settings: Settings) -> int:
    from rag.keys import read_keys

    for key in read_keys(settings.root):
        if wants_json(args):
            print_json(_shown(key))
        else:
            state = f"revoked {key.revoked}" if key.revoked else "works"
            print(f"{key.id}  {key.scope:5}  {key.created}  {state}  {key.name}")
    return 0


def _revoke(args: argparse.Namespace, settings: Settings) -> int:
    from rag.keys import revoke_key

    key = revoke_key(settings.root, args.id)
    if wants_json(args):
        print_json(_shown(key))
    else:
        print(f"key {key.id} of {key.name} no longer works")
    return 0


def _shown(key: Key) -> dict[str, str]:
    """All but the digest."""
    return {
        "id": key.id,
        "name": key.name,
        "scope": key.scope,
        "created": key.created,
        "revoked": key.revoked,
    }
