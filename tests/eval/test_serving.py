from __future__ import annotations

import subprocess
import sys

import pytest

from eval.serving import measure_serving
from indexes.errors import EvidentError
from rag.search import SearchRequest

PEAK = "from eval.latency import peak_rss_bytes; print(peak_rss_bytes())"


@pytest.mark.slow
def test_requests_are_timed_in_a_process_of_their_own(service):
    request = SearchRequest(index="animals", query="river fish")
    cost = measure_serving(service.settings, [request] * 4)
    assert {stage: one.n for stage, one in cost.latency.items()} == dict.fromkeys(cost.latency, 3)
    assert cost.latency["total"].p50_ms >= cost.latency["search.bm25"].p50_ms > 0
    assert cost.cold_start_ms > cost.latency["total"].p50_ms


@pytest.mark.slow
def test_its_failure_is_a_sentence(service):
    request = SearchRequest(index="absent", query="x")
    with pytest.raises(EvidentError, match=r"measuring the latency failed: .*no index 'absent'"):
        measure_serving(service.settings, [request] * 2)


@pytest.mark.slow
def test_a_childs_peak_is_its_own():
    ballast = bytearray(300 * 2**20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, check=True)
    assert 2**20 < int(done.stdout) < 250 * 2**20
