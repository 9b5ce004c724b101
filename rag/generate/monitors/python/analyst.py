"""Static analysis in a process of its own, asked ahead where a question is likely to come.

The library is pure Python: in the decoding's process it would hold up each step of it for the
interpreter's lock, and what it needs would be known late. Here it works while the model computes.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from queue import PriorityQueue
from typing import NamedTuple, Self

import msgspec

from indexes.errors import Cancelled, Unsupported
from rag.generate.monitors.python.analyst_process import (
    Question,
    Reply,
    read_frame,
    write_frame,
)
from rag.generate.monitors.python.program_analysis import Kind, Parameter

_LOG = logging.getLogger(__name__)
_COMMAND = ("-P", "-W", "ignore", "-m", "rag.generate.monitors.python.analyst_process")
_NOW, _AHEAD, _END = range(3)


class _Asked(NamedTuple):
    """One in the queue: by `urgency`, then in the order of asking."""

    urgency: int
    number: int
    question: Question | None
    reply: Future[Reply]


class Analyst:
    """Owns the process, which begins with the first of these and ends with `close`.

    A question over which the process ends is one to which nothing is known; the next one finds a
    new process. Every answer may raise `Unsupported` where none can be started, and `Cancelled`
    after `close`.
    """

    def __init__(self) -> None:
        self._numbers = count()
        self._requests = count()
        self._queue: PriorityQueue[_Asked] = PriorityQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._process = _start()
        self._is_ready = False
        self._ended_ms = self._process_ms = 0.0
        self._thread = threading.Thread(target=self._work, name="analyst", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def processor_ms(self) -> float:
        """The processor's time for all that was answered."""
        return self._ended_ms + self._process_ms

    def open(self, path: Path | None = None, after: str = "") -> RequestAnalysis:
        """One request's questions about one program, as `Analysis(path, after)` takes them."""
        return RequestAnalysis(self, next(self._requests), path, after)

    def warm(self) -> None:
        """Wait until everything is found out that most programs ask for, a few seconds at most.

        It is found out while nobody asks; until then the first question about a module of the
        standard library takes longer.
        """
        self.ask(Question(next(self._requests), "warm", "")).result()

    def ask(self, question: Question, *, ahead: bool = False) -> Future[Reply]:
        """Queue a question; those asked ahead wait until no other does, and can be cancelled."""
        urgency = _AHEAD if ahead else _NOW
        asked = _Asked(urgency, next(self._numbers), question, Future())
        with self._lock:
            if self._is_closed:
                asked.reply.set_exception(Cancelled("the analyst is closed"))
            else:
                self._queue.put(asked)
        return asked.reply

    def close(self) -> None:
        """End the process, whatever it is at."""
        with self._lock:
            self._is_closed = True
            self._process.kill()
            self._queue.put(_Asked(_END, next(self._numbers), None, Future()))
        self._thread.join()
        self._process.communicate()

    def _work(self) -> None:
        while (asked := self._queue.get()).question is not None:
            if not asked.reply.set_running_or_notify_cancel():
                continue
            try:
                asked.reply.set_result(self._reply(asked.question))
            except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
                asked.reply.set_exception(error)

    def _reply(self, question: Question) -> Reply:
        data = self._exchanged(question)
        with self._lock:
            if self._is_closed:
                raise Cancelled("the analyst is closed")
            if data is None:
                self._restart()
                return Reply(0.0)
        reply = msgspec.msgpack.decode(data, type=Reply)
        self._process_ms = reply.processor_ms
        return reply

    def _exchanged(self, question: Question) -> bytes | None:
        """The answer's frame; None when the process ended over the question."""
        reader, writer = self._process.stdout, self._process.stdin
        assert reader is not None
        assert writer is not None
        if not self._is_ready and read_frame(reader) is None and not self._is_closed:
            raise Unsupported("the process for static analysis does not start")
        self._is_ready = True
        try:
            write_frame(writer, msgspec.msgpack.encode(question))
            return read_frame(reader)
        except OSError:
            return None

    def _restart(self) -> None:
        _LOG.warning("static analysis ended over a question, to which nothing is known then")
        self._process.kill()
        self._process.communicate()
        self._ended_ms, self._process_ms = self.processor_ms, 0.0
        self._process, self._is_ready = _start(), False


class RequestAnalysis:
    """A `ProgramAnalysis` of one request. Answers are kept by text."""

    def __init__(self, analyst: Analyst, number: int, path: Path | None, after: str) -> None:
        self._analyst = analyst
        self._number = number
        self._path = None if path is None else str(path.absolute())
        self._after = after
        self._replies: dict[tuple[Kind, str], Future[Reply]] = {}
        self._last: dict[Kind, tuple[Kind, str]] = {}
        self._lock = threading.Lock()

    def names(self, text: str) -> frozenset[str]:
        """What can stand after `text`; nothing when that is not known."""
        return frozenset(self._reply("names", text).names)

    def signatures(self, text: str) -> list[list[Parameter]]:
        """Parameters of each callable that `text`, which ends in its bracket, may call."""
        return self._reply("signatures", text).signatures

    def foresee(self, kind: Kind, text: str) -> None:
        """Ask ahead; what was foreseen before, and is still waiting, is not asked any more."""
        with self._lock:
            if (kind, text) in self._replies:
                return
            last = self._last.get(kind)
            if last is not None and self._replies[last].cancel():
                del self._replies[last]
            self._last[kind] = kind, text
            self._replies[kind, text] = self._ask(kind, text, ahead=True)

    def _reply(self, kind: Kind, text: str) -> Reply:
        with self._lock:
            reply = self._replies.get((kind, text))
            # What still waits there would wait for all others.
            if reply is None or reply.cancel():
                reply = self._replies[kind, text] = self._ask(kind, text)
                if self._last.get(kind) == (kind, text):
                    del self._last[kind]
        return reply.result()

    def _ask(self, kind: Kind, text: str, *, ahead: bool = False) -> Future[Reply]:
        question = Question(self._number, kind, text, self._after, self._path)
        return self._analyst.ask(question, ahead=ahead)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *_COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
