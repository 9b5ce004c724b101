"""PDF files, parsed in a process of their own with bounded memory and time."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from indexes.errors import MalformedInput
from indexes.readers.intake import Intake, Read
from indexes.readers.sources import Source
from indexes.readers.text import stem

_WORKER: Final = Path(__file__).with_name("pdf_worker.py")
_READ_BYTES: Final = 1 << 20


def read_pdf(source: Source, intake: Intake, parser: PdfParser) -> Iterator[Read]:
    """The document of a PDF: its pages' text, a blank line between pages."""
    try:
        title, text = parser.parse(source.path)
    except MalformedInput as error:
        intake.reject(source, None, str(error), source.name)
        return
    read = intake.accept_page(title or stem(source), text, source)
    if read is not None:
        yield read


class PdfParser:
    """Owns the worker process: started at the first PDF, replaced when it hangs or dies."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def parse(self, path: Path) -> tuple[str, str]:
        """Title ("" when there is none) and text of a PDF.

        Raises `MalformedInput` when it is broken, encrypted, or too much for the worker's bounds.
        """
        process = self._started()
        request = json.dumps(os.fspath(path.resolve())).encode() + b"\n"
        try:
            _write(process, request)
            reply = _read_line(process, time.monotonic() + self._timeout_s)
        except TimeoutError:
            self.close()
            raise MalformedInput(
                f"the PDF was given up after {self._timeout_s:g} s of parsing"
            ) from None
        except (EOFError, OSError):
            self.close()
            raise MalformedInput("the PDF brought its parser down") from None
        answer: dict[str, Any] = json.loads(reply)
        if "error" in answer:
            raise MalformedInput(str(answer["error"]))
        return str(answer["title"]), str(answer["text"])

    def close(self) -> None:
        """End the worker."""
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # -P: the worker must not import a module that lies in the current folder.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process


def _write(process: subprocess.Popen[bytes], request: bytes) -> None:
    if process.stdin is None:
        raise EOFError
    process.stdin.write(request)
    process.stdin.flush()


def _read_line(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """One line from the worker; raises `TimeoutError` at `deadline`, `EOFError` when it is dead."""
    if process.stdout is None:
        raise EOFError
    line = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            chunk = os.read(process.stdout.fileno(), _READ_BYTES)
            if not chunk:
                raise EOFError
            line += chunk
    return bytes(line)
