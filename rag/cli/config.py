"""`rag config show`: what is in force."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rag.cli.output import print_json, wants_json

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "show the configuration in force"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag config`."""
    parser = subparsers.add_parser("config", help=HELP, description=HELP, parents=[common])
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser("show", help=HELP, description=HELP, parents=[common])
    show.set_defaults(run=_show)


def _show(args: argparse.Namespace, settings: Settings) -> int:
    import msgspec

    if wants_json(args):
        print_json(_printable(settings))
        return 0
    for key, value in _printable(settings).items():
        print(f"{key} = {msgspec.json.encode(value).decode()}")
    return 0


def _printable(settings: Settings) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(settings, enc_hook=str)
    return plain
