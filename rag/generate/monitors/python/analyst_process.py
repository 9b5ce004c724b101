"""The process that static analysis runs in: questions from standard input, answers in their order.

Each is a frame: four bytes of length, then MessagePack; an empty one says that it has begun. The
process ends with its input. What is known of a program is kept from question to question, and what
most programs ask for is found out while nobody asks. What is printed by modules that the library
imports goes to standard error.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from select import select
from typing import IO, Literal

import msgspec

from rag.generate.monitors.python.analysis import Analysis
from rag.generate.monitors.python.program_analysis import Kind, Parameter
from rag.generate.monitors.python.warming import warming_texts

MAX_REQUESTS = 64
"""Requests whose analyses are kept: those that asked last."""

PAUSE_S, QUIET_S, IDLE_S = 0.005, 0.05, 2.0
"""Without questions, before garbage is looked for among what is new, before others' questions are
asked, and before garbage is looked for among all there is."""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """Of one request, whose program is the same in all its questions.

    To "warm" the answer says nothing but that all is found out that most programs ask for.
    """

    request: int
    kind: Kind | Literal["warm"]
    text: str
    after: str = ""
    path: str | None = None


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What was asked for, and the processor time of this process up to here."""

    processor_ms: float
    names: list[str] = []
    signatures: list[list[Parameter]] = []


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame; None when there is none, or not the whole of one."""
    head = stream.read(4)
    length = int.from_bytes(head, "little")
    data = stream.read(length) if len(head) == 4 else b""
    return data if len(head) == 4 and len(data) == length else None


def write_frame(stream: IO[bytes], data: bytes) -> None:
    """Write one frame, now. Raises `OSError` when nobody reads."""
    stream.write(len(data).to_bytes(4, "little") + data)
    stream.flush()


def main() -> None:
    """Answer until the input ends."""
    # Whoever started this process ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)
        import jedi  # noqa: F401 - it takes long to load: before the first question comes

        write_frame(replies, b"")
        gc.disable()
        requests: OrderedDict[int, Analysis] = OrderedDict()
        texts = warming_texts()
        while (data := _next_frame(sys.stdin.buffer, texts)) is not None:
            question = msgspec.msgpack.decode(data, type=Question)
            if question.kind == "warm":
                _warm(texts)
            write_frame(replies, msgspec.msgpack.encode(_reply(requests, question)))


def _next_frame(stream: IO[bytes], texts: Iterator[str]) -> bytes | None:
    """The next frame. While none comes garbage is looked for, and `texts` are asked about.

    First among what is new, since most of it is of the last questions; what is kept, which is a
    hundred times as much, is looked through once nothing was asked for a while.
    """
    if not _comes(stream, PAUSE_S):
        _collect()
        if not _comes(stream, QUIET_S):
            _warm(texts, stream)
            if not _comes(stream, IDLE_S):
                gc.unfreeze()
                _collect()
    return read_frame(stream)


def _warm(texts: Iterator[str], stream: IO[bytes] | None = None) -> None:
    """Ask about what is left of the texts, or until a question comes."""
    warmed = Analysis()
    for text in texts:
        warmed.names(text)
        _collect()
        if stream is not None and _comes(stream, 0.0):
            return


def _comes(stream: IO[bytes], within_s: float) -> bool:
    return bool(select([stream], [], [], within_s)[0])


def _collect() -> None:
    """Look for garbage, and never again among what is left."""
    gc.collect()
    gc.freeze()


def _reply(requests: OrderedDict[int, Analysis], question: Question) -> Reply:
    analysis = requests.pop(question.request, None)
    if analysis is None:
        analysis = Analysis(Path(question.path) if question.path else None, question.after)
    requests[question.request] = analysis
    if len(requests) > MAX_REQUESTS:
        requests.popitem(last=False)
    if question.kind == "warm":
        return Reply(time.process_time() * 1000)
    if question.kind == "names":
        names = sorted(analysis.names(question.text))
        return Reply(time.process_time() * 1000, names)
    signatures = analysis.signatures(question.text)
    return Reply(time.process_time() * 1000, [], signatures)


if __name__ == "__main__":
    main()
