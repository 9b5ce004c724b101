"""One server process of several: `python -m api.worker SOCKET SETTINGS`, see `api.workers`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

import msgspec

from api.serve import serve_on
from rag.config import load_settings

WATCH_S = 1.0


def main() -> None:
    """Serve on the inherited socket."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    settings = load_settings(msgspec.json.decode(sys.argv[2]), {})
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    serve_on(listener, settings)


def _follow(parent: int) -> None:
    """Stop in good order when the parent was killed: nobody else would ever stop this process."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
