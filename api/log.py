"""The server's log: lines for people or JSON for machines, with request ids, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from api.request_id import CURRENT

LogFormat = Literal["text", "json"]

SECRETS = re.compile(r"evident_[A-Za-z0-9_-]{20,}|(?i:bearer)\s+[^\s'\"]+")
REDACTED = "[redacted]"
TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
CHATTY = ("faiss", "sentence_transformers", "transformers", "httpx")
"""Libraries whose notes on how they were loaded nobody runs a server for."""

FIELDS = ("method", "path", "status", "ms")
"""What a record may carry beside its message."""


class TextLines(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, secrets redacted."""
        return redacted(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id, and what else is known."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, secrets redacted."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        request_id = getattr(record, "request_id", None) or CURRENT.get()
        if request_id:
            line["request_id"] = request_id
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return redacted(msgspec.json.encode(line).decode())


def redacted(line: str) -> str:
    """The line without API keys and bearer tokens."""
    return SECRETS.sub(REDACTED, line)


def log_to_stderr(style: LogFormat) -> None:
    """Have the process log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for library in CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)
