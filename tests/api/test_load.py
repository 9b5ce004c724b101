"""The load generator counts what really happened; nothing fails while documents come and go."""

import itertools
import json
import shutil
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bench_serve import queries
from api.bench_updates import search_while_updating
from api.limits import Limits
from api.load import Reply, level_of, percentile, request_bytes, run_level
from indexes.document import Document
from rag.service import Service

ASKED = json.dumps({"index": "few", "query": "penicillin"}).encode()


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_least_value_that_covers_its_share(values, share):
    found = percentile(sorted(values), share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_counts_add_up():
    replies = [Reply(status, 0.0, 0.1 * n, b"") for n, status in enumerate([200, 429, 500, 200])]
    level = level_of(4, replies, failed=2, seconds=2.0)
    assert (level.served, level.refused, level.failed) == (2, 1, 3)
    assert level.throughput_per_s == 1.0
    assert (level.p50_ms, level.p99_ms) == (0.0, 300.0)


@pytest.mark.slow
def test_clients_ask_a_server_and_refusals_are_no_failures(few_documents, limits, live_server):
    small = msgspec.structs.replace(limits, max_searches=1, max_search_queue=0)
    seen = []
    with live_server(few_documents(), small) as live:
        port = live.listener.getsockname()[1]
        requests = itertools.repeat(request_bytes("POST", "/v1/search", ASKED))
        level = run_level(port, 8, 0.5, requests, seen.append)
    assert level.served > 0
    assert level.refused > 0
    assert level.failed == 0
    assert len(seen) == level.served + level.refused
    assert all(b'"hits"' in reply.body for reply in seen if reply.status == 200)


def test_queries_are_stretches_of_the_texts():
    texts = [" ".join(f"w{n}{d}" for n in range(30)) for d in range(3)]
    drawn = list(
        itertools.islice(queries([Document(str(n), t) for n, t in enumerate(texts)], 1), 50)
    )
    assert all(any(query in text for text in texts) for query in drawn)
    assert len(set(drawn)) > 40


def rounds(port, documents, enough, most=20):
    """Two seconds at a time until enough has happened; a busy machine commits slowly."""
    counts = Counter()
    for _ in range(most):
        counts.update(search_while_updating(port, "tiny", ["bm25"], documents, 2.0))
        if enough(counts):
            break
    return counts


@pytest.mark.slow
def test_no_search_fails_or_finds_what_is_deleted(tiny_index, tmp_path, live_server):
    shutil.copytree(tiny_index.root, tmp_path / "indexes")
    service = Service(msgspec.structs.replace(tiny_index, root=tmp_path / "indexes"))
    snapshot = service.snapshot("tiny")
    documents = [snapshot.document(key) for key in snapshot.live_ids()]
    with live_server(service, Limits()) as live:
        port = live.listener.getsockname()[1]
        counts = rounds(port, documents, lambda counts: counts["deletions"] > 8)
    service.close()
    assert counts["failed"] == counts["deleted_found"] == 0
    assert counts["deletions"] == counts["puts"] > 8
    assert counts["put_ones_found"] > 0


@pytest.mark.slow
def test_the_check_sees_a_deleted_document(tiny_index, tmp_path, live_server):
    """The twin that must fail: results kept beyond a commit are found out."""
    shutil.copytree(tiny_index.root, tmp_path / "indexes")
    service = Service(msgspec.structs.replace(tiny_index, root=tmp_path / "indexes"))
    kept, search = {}, service.search

    def stale(request, **how):
        """What was found for the query as long as a put document was among it."""
        found = search(request, **how)
        if any(hit.id.startswith("bench-") for hit in found.hits):
            kept[request.query] = found
        return kept.get(request.query, found)

    service.search = stale
    snapshot = service.snapshot("tiny")
    documents = [snapshot.document(key) for key in snapshot.live_ids()]
    with live_server(service, Limits()) as live:
        port = live.listener.getsockname()[1]
        counts = rounds(port, documents, lambda counts: counts["deleted_found"])
    service.close()
    assert counts["deleted_found"] > 0
