"""Output: data to stdout, progress and notes to stderr; bars only where a person watches."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

COMPILED = "indexes.compiled_loops"
"""The logger that tells of compilations."""

QUIET_BAR_S = 15.0
"""Without a terminal a long operation says a line this often, so that a log shows it is alive."""


def wants_json(args: argparse.Namespace) -> bool:
    """Whether `--json` was given."""
    return bool(getattr(args, "json", False))


def print_json(value: Any) -> None:
    """One JSON document on one line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def is_terminal() -> bool:
    """Whether stderr is a terminal."""
    return sys.stderr.isatty()


MIN_SHARE = 0.02
"""Below this the time left is a guess not worth making."""


class TerminalProgress:
    """Bars on a terminal; a plain line now and then where stderr is a file or a pipe."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._title = ""
        self._total: int | None = None
        self._done = 0
        self._started = self._said = 0.0

    def note(self, text: str) -> None:
        """Say what is being done now."""
        if not self._quiet:
            self._write(f"{text}\n")

    def start(self, title: str, total: int | None, unit: str) -> None:
        """Begin a bar."""
        self.finish()
        self._title, self._total, self._done = title, total, 0
        self._started = self._said = time.monotonic()
        if is_terminal() and not self._quiet:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, desc=title, unit=unit, unit_scale=True, file=sys.stderr, leave=True
            )

    def advance(self, amount: int) -> None:
        """Move on."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(amount)
        elif not self._quiet and time.monotonic() - self._said > QUIET_BAR_S and self._total:
            self._said = time.monotonic()
            spent = self._said - self._started
            share = min(1.0, self._done / self._total)
            left = f", about {spent / share - spent:.0f} s left" if share >= MIN_SHARE else ""
            self._write(f"{self._title}: {share:.0%} after {spent:.0f} s{left}\n")

    def finish(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text.rstrip("\n"), file=sys.stderr)
        else:
            sys.stderr.write(text)
            sys.stderr.flush()


class _Compiling(logging.Handler):
    """Says once that the command waits for compiled code."""

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        logging.getLogger(COMPILED).removeHandler(self)
        sys.stderr.write("\rcompiling code for this processor: once, then it is kept\n")
        sys.stderr.flush()


@contextmanager
def compilation_told() -> Iterator[None]:
    """A command whose code has to be compiled first says so, on stderr."""
    logger, handler = logging.getLogger(COMPILED), _Compiling()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
