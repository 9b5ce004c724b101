"""Server-sent events (WHATWG HTML, 9.2) from work in a thread: numbered, kept alive, ended once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

MEDIA_TYPE = "text/event-stream"
UNNAMED = "message"
"""What an event without a name goes by."""

PING = b": ping\n\n"
PING_S = 15.0
"""A comment after this much silence: proxies close connections that say nothing."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Event(msgspec.Struct, frozen=True):
    """A name and JSON data."""

    name: str
    data: Any


def encoded(number: int, event: Event) -> bytes:
    """The event on the wire; JSON has no line breaks, so the data are one line."""
    body = msgspec.json.encode(event.data)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, event.name.encode("ascii"), body)


class EventQueue:
    """Events from a thread to the event loop that made this queue, in order; None is their end.

    What is put is bounded by what the work may write, so a slow reader costs no more than the
    whole answer.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    def put(self, name: str, data: Any) -> None:
        """Called in the working thread. Dropped when the loop is gone."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, Event(name, data))

    def end_with(self, work: asyncio.Task[Any]) -> None:
        """No more events once `work` is done: what its thread put comes before the end."""
        work.add_done_callback(lambda _: self._events.put_nowait(None))

    async def get(self, timeout_s: float | None = None) -> Event | None:
        """The next event. Raises `TimeoutError`."""
        return await asyncio.wait_for(self._events.get(), timeout_s)


async def first_event(queue: EventQueue, work: asyncio.Task[Any]) -> Event | None:
    """The first event, None when the work ended without one; what it raised is raised here.

    So what fails before anything was said is answered with a plain problem, not with a stream.
    """
    queue.end_with(work)
    first = await queue.get()
    if first is None:
        work.result()
    return first


async def stream(
    first: Event | None,
    queue: EventQueue,
    work: asyncio.Task[Any],
    last: Callable[[asyncio.Task[Any]], list[Event]],
    cancel: threading.Event,
    ping_s: float = PING_S,
    *,
    encode: Callable[[int, Event], bytes] = encoded,
) -> AsyncIterator[bytes]:
    """`first`, what the work puts, then `last(work)` once it is done, whose end is terminal.

    A reader that goes away closes this iterator, which sets `cancel`.
    """
    number = 0
    event = first
    try:
        while event is not None:
            number += 1
            yield encode(number, event)
            while True:
                try:
                    event = await queue.get(ping_s)
                    break
                except TimeoutError:
                    yield PING
        for event in last(work):
            number += 1
            yield encode(number, event)
    finally:
        cancel.set()
        work.add_done_callback(_looked_at)


def _looked_at(work: asyncio.Task[Any]) -> None:
    """Fetch what nobody is left to be told, or asyncio would log it as forgotten."""
    if not work.cancelled():
        work.exception()
