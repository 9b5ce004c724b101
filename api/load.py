"""A load of searches on a server: clients that ask one after another over a kept connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import msgspec

REFUSED = 429
OK = 200
REFUSED_PAUSE_S = 0.1
"""A client that was turned away comes back after so long where it was not told when."""


class Reply(msgspec.Struct, frozen=True):
    """One answered request; times in `time.monotonic` seconds.

    `retry_after_s` is when one that was turned away may come back.
    """

    status: int
    started: float
    ended: float
    body: bytes
    retry_after_s: float = REFUSED_PAUSE_S


class Level(msgspec.Struct, frozen=True):
    """What so many clients at a time got. Latencies are of the requests that were served."""

    clients: int
    served: int
    refused: int
    failed: int
    throughput_per_s: float
    p50_ms: float
    p99_ms: float


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    """A request on the wire, for a connection that is kept."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def run_level(
    port: int,
    n_clients: int,
    seconds: float,
    requests: Iterator[bytes],
    on_reply: Callable[[Reply], None] = lambda _: None,
) -> Level:
    """Have `n_clients` ask for so long; each sends its next request when it has the last reply.

    `requests` is shared: no two clients send the same unless it repeats.
    """
    replies: list[Reply] = []

    def keep(reply: Reply) -> None:
        on_reply(reply)
        replies.append(msgspec.structs.replace(reply, body=b""))

    started = time.monotonic()
    failed = asyncio.run(_all(port, n_clients, started + seconds, requests, keep))
    return level_of(n_clients, replies, failed, time.monotonic() - started)


def level_of(n_clients: int, replies: list[Reply], failed: int, seconds: float) -> Level:
    """Counts, rate and percentiles (nearest rank) of what was answered within `seconds`."""
    served = [reply for reply in replies if reply.status == OK]
    refused = sum(reply.status == REFUSED for reply in replies)
    spent = sorted(1000 * (reply.ended - reply.started) for reply in served)
    return Level(
        clients=n_clients,
        served=len(served),
        refused=refused,
        failed=failed + len(replies) - len(served) - refused,
        throughput_per_s=round(len(served) / seconds, 1),
        p50_ms=round(percentile(spent, 0.50), 2),
        p99_ms=round(percentile(spent, 0.99), 2),
    )


def percentile(ascending: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed; 0 of none."""
    if not ascending:
        return 0.0
    return ascending[max(0, -int(-share * len(ascending) // 1) - 1)]


async def _all(
    port: int,
    n_clients: int,
    until: float,
    requests: Iterator[bytes],
    keep: Callable[[Reply], None],
) -> int:
    """Run the clients; how many requests got no reply."""
    counts = await asyncio.gather(*(_one(port, until, requests, keep) for _ in range(n_clients)))
    return sum(counts)


async def _one(
    port: int, until: float, requests: Iterator[bytes], keep: Callable[[Reply], None]
) -> int:
    failed = 0
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            failed += 1
            await asyncio.sleep(REFUSED_PAUSE_S)
            continue
        try:
            while time.monotonic() < until:
                reply = await _ask(reader, writer, next(requests))
                keep(reply)
                if reply.status == REFUSED:
                    left_s = until - time.monotonic()
                    await asyncio.sleep(max(0.0, min(reply.retry_after_s, left_s)))
        except (OSError, asyncio.IncompleteReadError):
            failed += 1
        finally:
            writer.close()
    return failed


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Reply:
    started = time.monotonic()
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(_header(head, b"content-length"))
    body = await reader.readexactly(length)
    wait_s = float(_header(head, b"retry-after") or REFUSED_PAUSE_S)
    return Reply(int(head[9:12]), started, time.monotonic(), body, wait_s)


def _header(head: bytes, name: bytes) -> bytes:
    """A header's value in a reply's head in lower case; empty where it is not there."""
    return head.partition(b"\r\n" + name + b":")[2].split(b"\r\n", 1)[0].strip()
