"""The process that static analysis runs in: questions from standard input, answers in their order.

Each is a frame: four bytes of length, then MessagePack; an empty one says that it has begun. The
process ends with its input. What is known of a program is kept from question to question. What is
printed by modules that the library imports goes to standard error.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections import OrderedDict
from pathlib import Path
from select import select
from typing import IO

import msgspec

from rag.generate.monitors.python.analysis import Analysis
from rag.generate.monitors.python.program_analysis import Kind, Parameter

MAX_REQUESTS = 64
"""Requests whose analyses are kept: those that asked last."""

PAUSE_S, IDLE_S = 0.005, 2.0
"""Without questions, before garbage is looked for among what is new, and among all there is."""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """Of one request, whose program is the same in all its questions."""

    request: int
    kind: Kind
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
        while (data := _next_frame(sys.stdin.buffer)) is not None:
            question = msgspec.msgpack.decode(data, type=Question)
            write_frame(replies, msgspec.msgpack.encode(_reply(requests, question)))


def _next_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame. While none comes garbage is looked for.

    First among what is new, since most of it is of the last questions; what is kept, which is a
    hundred times as much, is looked through once nothing was asked for a while.
    """
    if not select([stream], [], [], PAUSE_S)[0]:
        gc.collect()
        gc.freeze()
        if not select([stream], [], [], IDLE_S)[0]:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
    return read_frame(stream)


def _reply(requests: OrderedDict[int, Analysis], question: Question) -> Reply:
    analysis = requests.pop(question.request, None)
    if analysis is None:
        analysis = Analysis(Path(question.path) if question.path else None, question.after)
    requests[question.request] = analysis
    if len(requests) > MAX_REQUESTS:
        requests.popitem(last=False)
    if question.kind == "names":
        names = sorted(analysis.names(question.text))
        return Reply(time.process_time() * 1000, names)
    signatures = analysis.signatures(question.text)
    return Reply(time.process_time() * 1000, [], signatures)


if __name__ == "__main__":
    main()
