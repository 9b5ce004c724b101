"""`rag serve`: the REST API on one address, until it is told to stop.

The command line imports this module to show its help, so what is heavy is imported by `run`.
"""

from __future__ import annotations

import argparse
import signal
import socket
from types import FrameType
from typing import TYPE_CHECKING, Any

from msgspec import structs

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "serve search and answers over HTTP"
FLAGS = (
    *("host", "port", "workers", "max_body_bytes"),
    *("max_concurrency", "max_searches", "max_queue", "max_search_queue"),
    *("require_keys", "inputs", "log_format"),
)
BACKLOG = 2048


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add `serve`. Its flags are named as the settings that they set."""
    parser = subparsers.add_parser("serve", parents=[common], help=HELP, description=HELP)
    parser.add_argument("--host", help="address to bind (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to bind; 0: any free one (default 8080)")
    parser.add_argument("--max-body-bytes", type=int, metavar="N", help="largest request body")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="server processes that share the indexes' memory"
    )
    parser.add_argument("--max-concurrency", type=int, metavar="N", help="answers at a time")
    parser.add_argument("--max-searches", type=int, metavar="N", help="searches at a time")
    parser.add_argument("--max-queue", type=int, metavar="N", help="answers that may wait")
    parser.add_argument("--max-search-queue", type=int, metavar="N", help="searches that may wait")
    parser.add_argument("--log-format", choices=["text", "json"], help="default: text")
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
    from api.log import log_to_stderr
    from api.server import bind
    from rag.config import load_settings

    given = {name: value for name in FLAGS if (value := getattr(args, name)) is not None}
    settings = load_settings(structs.asdict(settings) | given, {})
    listener = bind(settings.host, settings.port)
    if settings.workers == 1:
        serve_on(listener, settings)
        return 0
    from api.workers import Workers

    log_to_stderr(settings.log_format)
    listener.listen(BACKLOG)
    if Workers(settings, listener).run() is signal.SIGINT:
        raise KeyboardInterrupt
    return 0


def serve_on(listener: socket.socket, settings: Settings) -> None:
    """Serve in this process on a bound socket until told to stop."""
    from api.gate import Gate
    from api.limits import limits_from
    from api.log import log_to_stderr
    from api.server import serve
    from rag.jobs.desk import Desk
    from rag.service import Service

    log_to_stderr(settings.log_format)
    signal.signal(signal.SIGTERM, _exit_cleanly)
    service = Service(settings)
    try:
        gate = Gate(settings.root, required=settings.require_keys)
        serve(service, listener, limits_from(settings), gate, Desk(settings))
    finally:
        service.close()


def _exit_cleanly(_signal: int, _frame: FrameType | None) -> None:
    """What the server's own stop ends in: `finally` blocks still run."""
    raise SystemExit(0)
