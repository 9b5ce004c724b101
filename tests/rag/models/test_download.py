from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wheel_shelf import FileServer, Notes

from indexes.errors import DownloadFailed
from rag.models.download import transfer
from rag.models.registry import Access

CONTENT = bytes(range(256)) * 4096
Serve = Callable[[bytes], FileServer]


def test_a_file_over_http(serve: Serve, tmp_path: Path) -> None:
    server, part, notes = serve(CONTENT), tmp_path / "deep" / "file.whl.part", Notes()
    transfer(server.url, part, size_bytes=len(CONTENT), progress=notes)
    assert part.read_bytes() == CONTENT
    assert notes.bars == [("getting file.whl", len(CONTENT)), ("end", None)]
    assert notes.done == len(CONTENT)
    transfer(server.url, part, size_bytes=len(CONTENT))
    assert server.ranges == [None], "a complete part is not asked for again"


def test_a_file_from_disk_is_resumed_too(tmp_path: Path) -> None:
    source, part = tmp_path / "a wheel.whl", tmp_path / "x.part"
    source.write_bytes(CONTENT)
    part.write_bytes(CONTENT[:1000])
    transfer(source.as_uri(), part, size_bytes=len(CONTENT))
    assert part.read_bytes() == CONTENT


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    held=st.integers(0, len(CONTENT)),
    drops=st.lists(st.integers(1, len(CONTENT)), max_size=4),
    knows_ranges=st.booleans(),
)
def test_any_interruption_ends_in_the_same_bytes(
    serve: Serve, tmp_path: Path, held: int, drops: list[int], knows_ranges: bool
) -> None:
    server, part, notes = serve(CONTENT), tmp_path / "file.part", Notes()
    server.drops, server.knows_ranges = drops, knows_ranges
    part.write_bytes(CONTENT[:held])
    transfer(server.url, part, size_bytes=len(CONTENT), progress=notes, attempts=6, backoff_s=0.001)
    assert part.read_bytes() == CONTENT
    assert notes.done == len(CONTENT)


def test_only_the_rest_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    server, part = serve(CONTENT), tmp_path / "file.part"
    server.drops = [300_000]
    transfer(server.url, part, size_bytes=len(CONTENT), backoff_s=0.001)
    assert server.ranges == [None, "bytes=300000-"]


def test_busy_server_is_asked_again(serve: Serve, tmp_path: Path) -> None:
    server, notes = serve(CONTENT), Notes()
    server.statuses = [503, 429]
    transfer(
        server.url, tmp_path / "f.part", size_bytes=len(CONTENT), progress=notes, backoff_s=0.001
    )
    assert [n for n in notes.notes if "503" in n or "429" in n] == notes.notes
    assert len(notes.notes) == 2


def test_a_refusal_is_final(serve: Serve, tmp_path: Path) -> None:
    server = serve(CONTENT)
    server.statuses = [403, 200]
    with pytest.raises(DownloadFailed, match="403"):
        transfer(server.url, tmp_path / "f.part", size_bytes=len(CONTENT))
    assert len(server.ranges) == 1


def test_dead_server_fails_and_keeps_what_is_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    part = tmp_path / "f.part"
    part.write_bytes(CONTENT[:10])
    with pytest.raises(DownloadFailed, match="10 of 1048576 bytes are kept"):
        transfer(
            f"http://127.0.0.1:{port}/f", part, size_bytes=len(CONTENT), attempts=2, backoff_s=0.001
        )
    assert part.read_bytes() == CONTENT[:10]


def test_too_many_bytes_are_refused(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="over 100 bytes"):
        transfer(serve(CONTENT).url, tmp_path / "f.part", size_bytes=100)
    (tmp_path / "f.part").write_bytes(CONTENT)
    source = tmp_path / "small"
    source.write_bytes(b"abc")
    transfer(source.as_uri(), tmp_path / "f.part", size_bytes=3)
    assert (tmp_path / "f.part").read_bytes() == b"abc"


def test_strange_sources_and_certificates(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="'ftp'"):
        transfer("ftp://127.0.0.1/f", tmp_path / "f.part", size_bytes=1)
    with pytest.raises(DownloadFailed, match="cannot copy"):
        transfer((tmp_path / "absent").as_uri(), tmp_path / "f.part", size_bytes=1)
    with pytest.raises(DownloadFailed, match="certificates"):
        transfer(
            "https://127.0.0.1:1/f",
            tmp_path / "f.part",
            size_bytes=1,
            access=Access(certificates=str(tmp_path / "absent.pem")),
        )


def test_resume_after_sigkill(serve: Serve, tmp_path: Path) -> None:
    server, part = serve(CONTENT), tmp_path / "f.part"
    server.chunk_pause_s = 0.2
    code = (
        "import sys; from pathlib import Path; from rag.models.download import transfer;"
        f"transfer({server.url!r}, Path({str(part)!r}), size_bytes={len(CONTENT)})"
    )
    victim = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    held = part.stat().st_size
    assert 0 < held < len(CONTENT)
    server.chunk_pause_s = 0.0
    transfer(server.url, part, size_bytes=len(CONTENT))
    assert part.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={held}-"]
