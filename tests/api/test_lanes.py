"""Lines before the threads: bounded, apart from each other, and deadlines that count in them."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import msgspec
import pytest
from litestar.exceptions import TooManyRequestsException

from api.lane import Lane
from indexes.errors import DeadlineExceeded
from rag.stopwatch import Stopwatch

ASKED = {"index": "few", "query": "penicillin"}
HOUR_S = 3600.0


def test_time_in_the_line_counts_and_is_told():
    async def main():
        lane = Lane("test", 1, 5)
        go = threading.Event()
        first = asyncio.create_task(lane.run(lambda: go.wait(30)))
        await asyncio.sleep(0)

        def measure():
            watch = Stopwatch(200)
            return watch.total(), watch.deadline

        second = asyncio.create_task(lane.run(measure))
        await asyncio.sleep(0)
        arrived = time.monotonic()
        await asyncio.sleep(0.05)
        assert (lane.n_running, lane.n_queued) == (1, 1)
        let_go = time.monotonic()
        go.set()
        timings, deadline = await second
        assert timings["queue"] >= 1000 * (let_go - arrived) - 1
        assert timings["total"] >= timings["queue"]
        assert deadline <= arrived + 0.2
        assert await first
        await asyncio.sleep(0.01)
        assert lane.n_running == 0
        await asyncio.to_thread(lane.shut)

    asyncio.run(main())


def test_who_waits_too_long_is_told_at_once_and_never_runs():
    async def main():
        lane = Lane("test", 1, 5)
        go, ran = threading.Event(), []
        first = asyncio.create_task(lane.run(lambda: go.wait(30)))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded, match="50 ms"):
            await lane.run(lambda: ran.append(1), timeout_ms=50)
        assert not first.done()
        go.set()
        await first
        await asyncio.to_thread(lane.shut)
        assert ran == []
        assert lane.n_queued == 0

    asyncio.run(main())


@pytest.mark.parametrize("timeout_ms", [None, 60_000])
def test_what_nobody_waits_for_any_more_is_dropped_from_the_line(timeout_ms):
    async def main():
        lane = Lane("test", 1, 5)
        go, ran = threading.Event(), []
        first = asyncio.create_task(lane.run(lambda: go.wait(30)))
        await asyncio.sleep(0)
        left = asyncio.create_task(lane.run(lambda: ran.append(1), timeout_ms))
        await asyncio.sleep(0.01)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        go.set()
        await first
        await asyncio.to_thread(lane.shut)
        assert ran == []

    asyncio.run(main())


def test_a_full_line_is_refused_and_empties_again():
    async def main():
        lane = Lane("test", 1, 1)
        changes = []
        lane.on_change = lambda lane: changes.append((lane.n_running, lane.n_queued))
        go = threading.Event()
        taken = [asyncio.create_task(lane.run(lambda: go.wait(30))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequestsException):
            await lane.run(lambda: None)
        go.set()
        await asyncio.gather(*taken)
        await asyncio.sleep(0.01)
        assert await lane.run(lambda: 7) == 7
        await asyncio.to_thread(lane.shut)
        assert (1, 1) in changes

    asyncio.run(main())


@pytest.mark.slow
def test_a_search_does_not_wait_for_answers(few_documents, limits, live_server, until):
    service = few_documents(word_s=HOUR_S)
    with live_server(service, limits) as live, ExitStack() as answers:
        asked = {"url": f"{live.url}/v1/answer", "json": ASKED | {"stream": True}, "timeout": 30}
        for _ in range(limits.max_concurrency):
            answers.enter_context(httpx.stream("POST", **asked))
        until(
            lambda: (
                f'evident_running{{lane="answer"}} {float(limits.max_concurrency)}'
                in httpx.get(f"{live.url}/metrics").text
            )
        )
        assert httpx.post(f"{live.url}/v1/search", json=ASKED, timeout=30).status_code == 200


def test_a_deadline_in_the_line_is_a_504_before_its_turn(
    few_documents, limits, live_server, until, is_problem
):
    class Held(few_documents):
        def __init__(self):
            super().__init__()
            self.go = threading.Event()

        def search(self, request, *, request_id):
            self.go.wait(30)
            return super().search(request, request_id=request_id)

    service = Held()
    one = msgspec.structs.replace(limits, max_searches=1)
    with live_server(service, one) as live, ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{live.url}/v1/search", json=ASKED, timeout=30)
        until(lambda: 'evident_running{lane="search"} 1.0' in httpx.get(f"{live.url}/metrics").text)
        late = httpx.post(f"{live.url}/v1/search", json=ASKED | {"timeout_ms": 60}, timeout=20)
        is_problem(late, 504, "deadline-exceeded")
        service.go.set()
        assert first.result().status_code == 200
