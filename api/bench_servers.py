"""The servers that `rag bench serve` measures, each in processes of its own on a free port."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from api.load import OK
from indexes.document import Document
from indexes.errors import EvidentError
from rag.config import Settings

Process = subprocess.Popen[bytes]
START_S = 600.0
ADDED_AT_ONCE = 500


class Running(msgspec.Struct, frozen=True):
    """A server that answers on a port of 127.0.0.1."""

    port: int
    pid: int

    def memory_mb(self) -> float:
        """Memory of its processes, what they share counted once (proportional set size)."""
        return sum(_pss_kb(pid) for pid in _family(self.pid)) / 1000


@contextmanager
def our_server(settings: Settings, flags: Sequence[str] = ()) -> Iterator[Running]:
    """`rag serve` over the root of the settings, ready. Raises `EvidentError` when it is not."""
    port = _free_port()
    where = ["--root", str(settings.root), "--cache", str(settings.cache), "--port", str(port)]
    command = [sys.executable, "-m", "rag.cli.main", "serve", *where, *flags]
    environment = os.environ | {"RAG_GENERATOR": settings.generator}
    with _process(command, environment) as process:
        _wait(process, port, "/readyz")
        yield Running(port, process.pid)


@contextmanager
def txtai_server(python: Path, model: Path, documents: Sequence[Document]) -> Iterator[Running]:
    """The same documents and dense model behind txtai's API; `python` is one that has txtai."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yml"
        config.write_text(
            f"writable: true\nembeddings:\n  path: {model}\n  content: true\n", encoding="utf-8"
        )
        command = [str(python), "-m", "uvicorn", "txtai.api:app", "--port", str(port)]
        environment = os.environ | {"CONFIG": str(config)}
        environment.pop("PYTHONPATH", None)
        with _process([*command, "--log-level", "warning"], environment) as process:
            _wait(process, port, "/count")
            for start in range(0, len(documents), ADDED_AT_ONCE):
                rows = [
                    {"id": one.id, "text": f"{one.title} {one.text}".strip()}
                    for one in documents[start : start + ADDED_AT_ONCE]
                ]
                _request(port, "POST", "/add", msgspec.json.encode(rows))
            _request(port, "GET", "/index")
            yield Running(port, process.pid)


@contextmanager
def _process(
    command: Sequence[str], environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: Process, port: int, path: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _request(port, "GET", path)
        except (OSError, EvidentError):
            time.sleep(0.2)
        else:
            return
    ended = process.poll()
    how = f"within {START_S:.0f} s" if ended is None else f"and ended with {ended}"
    raise EvidentError(f"the server on port {port} was not ready {how}")


def _request(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != OK:
        raise EvidentError(f"{method} {path} was answered with {response.status}")
    return content


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _pss_kb(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0
