"""`rag serve`: the REST API on one address, until it is told to stop.

The command line imports this module to show its help, so what is heavy is imported by `run`.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from msgspec import structs

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "serve search and answers over HTTP"
FLAGS = ("host", "port", "max_body_bytes", "max_concurrency", "max_queue", "require_keys", "inputs")


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add `serve`. Its flags are named as the settings that they set."""
    parser = subparsers.add_parser("serve", parents=[common], help=HELP, description=HELP)
    parser.add_argument("--host", help="address to bind (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to bind; 0: any free one (default 8080)")
    parser.add_argument("--max-body-bytes", type=int, metavar="N", help="largest request body")
    parser.add_argument("--max-concurrency", type=int, metavar="N", help="requests run at a time")
    parser.add_argument("--max-queue", type=int, metavar="N", help="requests that may wait")
    parser.add_argument(
        "--require-keys",
        action="store_true",
        default=None,
        help="ask for a key even before the first was made (see rag keys)",
    )
    parser.add_argument(
        "--inputs", metavar="DIR", help="folder whose files and folders builds may read by name"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Serve until told to stop.

    Raises `UsageError` when the address cannot be had. SIGTERM ends in exit code 0, SIGINT in a
    `KeyboardInterrupt`, both after requests in flight have finished.
    """
    from api.gate import Gate
    from api.limits import limits_from
    from api.server import bind, serve
    from rag.config import load_settings
    from rag.jobs.desk import Desk
    from rag.service import Service

    given = {name: value for name in FLAGS if (value := getattr(args, name)) is not None}
    settings = load_settings(structs.asdict(settings) | given, {})
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    signal.signal(signal.SIGTERM, _exit_cleanly)
    listener = bind(settings.host, settings.port)
    service = Service(settings)
    try:
        gate = Gate(settings.root, required=settings.require_keys)
        serve(service, listener, limits_from(settings), gate, Desk(settings))
    finally:
        service.close()
    return 0


def _exit_cleanly(_signal: int, _frame: FrameType | None) -> None:
    """What the server's own stop ends in: `finally` blocks still run."""
    raise SystemExit(0)
