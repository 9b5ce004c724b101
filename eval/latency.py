"""Latencies as percentiles, and what the process has used."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
_STATUS = Path("/proc/self/status")


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Percentiles in milliseconds over `n` samples, interpolated linearly between samples."""

    n: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def latency(samples_ms: Sequence[float]) -> Latency:
    """Percentiles of at least one sample."""
    p50, p95, p99 = np.percentile(samples_ms, (50, 95, 99)).tolist()
    return Latency(len(samples_ms), float(np.mean(samples_ms)), p50, p95, p99)


def by_stage(timings_ms: Iterable[Mapping[str, float]]) -> dict[str, Latency]:
    """Percentiles per stage, from one mapping of stage to milliseconds per request."""
    samples: dict[str, list[float]] = {}
    for timing in timings_ms:
        for stage, value in timing.items():
            samples.setdefault(stage, []).append(value)
    return {stage: latency(values) for stage, values in samples.items()}


def peak_rss_bytes() -> int:
    """The most memory that this process has had resident since it began.

    Linux hands `ru_maxrss` on through exec, so that a child starts with its parent's; the high
    water mark of the address space itself is asked first.
    """
    if _STATUS.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT_BYTES
