"""What serving costs, measured in a process of its own that does nothing else.

In the process that built the index and searched it in batches, the libraries are loaded, the models
warm and the memory used by other work: neither a cold start nor a peak could be seen there.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec

from eval.latency import Latency, by_stage, peak_rss_bytes
from indexes.errors import EvidentError
from rag.config import Settings, load_settings
from rag.search import SearchRequest

SERVED_HITS = 10


class ServingCost(msgspec.Struct, frozen=True):
    """`latency` is per request and stage, one request at a time, the first one not counted.

    `cold_start_ms` runs from importing the service to the first response: libraries, index, models
    and all. The files may lie in the system's cache.
    """

    cold_start_ms: float
    latency: dict[str, Latency]
    peak_rss_bytes: int


class _Task(msgspec.Struct, frozen=True):
    settings: dict[str, str | int | bool]
    requests: list[SearchRequest]


def measure_serving(settings: Settings, requests: Sequence[SearchRequest]) -> ServingCost:
    """Serve the requests one at a time in a fresh process; at least two are needed.

    Nothing that was asked before is answered from memory. Raises `EvidentError` with the process'
    last words when it fails.
    """
    settings = msgspec.structs.replace(
        settings, result_cache_mb=0, encoding_cache_mb=0, passage_cache_mb=0
    )
    plain = {
        name: value if isinstance(value, int) else str(value)
        for name, value in msgspec.structs.asdict(settings).items()
    }
    task = msgspec.json.encode(_Task(plain, list(requests)))
    command = [sys.executable, "-m", "eval.serving"]
    done = subprocess.run(command, input=task, capture_output=True, check=False)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise EvidentError(f"measuring the latency failed: {' '.join(words) or done.returncode}")
    return msgspec.json.decode(done.stdout, type=ServingCost)


def _serve(task: _Task) -> ServingCost:
    settings = load_settings(task.settings, {})
    began = time.perf_counter()
    from rag.service import Service

    service = Service(settings)
    first, *others = task.requests
    service.search(first)
    cold_start_ms = (time.perf_counter() - began) * 1000
    timings = [service.search(request).timings_ms for request in others]
    service.close()
    return ServingCost(cold_start_ms, by_stage(timings), peak_rss_bytes())


if __name__ == "__main__":
    cost = _serve(msgspec.json.decode(sys.stdin.buffer.read(), type=_Task))
    sys.stdout.buffer.write(msgspec.json.encode(cost))
