"""What survives: kills in the middle of commits, full disks, damaged indexes and models."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from subprocess import PIPE

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.limits import Limits
from indexes.errors import CorruptIndex
from indexes.library import index_folder
from indexes.snapshot import Snapshot
from rag.jobs.desk import Desk
from rag.service import Service

TMPFS_BYTES = 3_000_000


@pytest.fixture
def settings(tiny_index, tmp_path):
    shutil.copytree(tiny_index.root, tmp_path / "indexes")
    return msgspec.structs.replace(tiny_index, root=tmp_path / "indexes")


class Idle(Desk):
    def tend(self):
        """Nobody builds what was ordered."""


@contextlib.contextmanager
def app_over(settings):
    service = Service(settings)
    app = create_app(service, Limits(), desk=Idle(settings))
    try:
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client
    finally:
        service.close()


def found(client, query, index="tiny"):
    response = client.post("/v1/search", json={"index": index, "query": query})
    assert response.status_code == 200, response.text
    return [hit["id"] for hit in response.json()["hits"]]


def put(client, key, text):
    return client.put(f"/v1/indexes/tiny/documents/{key}", json={"text": text})


class Served:
    """`rag serve` in a process of its own; `url` once it listens."""

    def __init__(self, settings, *flags):
        where = ["--root", str(settings.root), "--cache", str(settings.cache)]
        command = [sys.executable, "-m", "rag.cli.main", "serve", "--port", "0", *where, *flags]
        environment = os.environ | {"RAG_GENERATOR": str(settings.cache / "absent")}
        self.process = subprocess.Popen(command, env=environment, stderr=PIPE, text=True)
        self.log = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self.said(r"serving on (http://127\.0\.0\.1:\d+)")[1]

    def _read(self):
        self.log.extend(self.process.stderr)

    def said(self, pattern, timeout_s=120, times=1):
        deadline = time.monotonic() + timeout_s
        while True:
            matches = [m for line in list(self.log) if (m := re.search(pattern, line))]
            if len(matches) >= times:
                return matches[-1]
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self._reader.join(10)
            self.process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_server_killed_in_the_middle_of_commits_keeps_every_acknowledged_document(settings, seed):
    rng = random.Random(seed)
    acknowledged = []
    with Served(settings) as server:

        def write():
            with contextlib.suppress(httpx.HTTPError), httpx.Client(base_url=server.url) as client:
                for number in range(10_000):
                    key = f"new{number}"
                    if put(client, key, f"The quagga number {number} grazed.").status_code == 200:
                        acknowledged.append(key)

        writer = threading.Thread(target=write)
        writer.start()
        while len(acknowledged) < 3:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
        server.process.send_signal(signal.SIGKILL)
        writer.join(30)
    snapshot = Snapshot(index_folder(settings.root, "tiny"), checksums=True)
    present = set(snapshot.live_ids())
    snapshot.close()
    kept = {"penicillin", "radium", "../🧫"}
    assert kept | set(acknowledged) <= present
    # At most the one that was being written when the kill came is there without a reply.
    assert len(present - kept - set(acknowledged)) <= 1
    with app_over(settings) as client:
        assert found(client, "quagga 1")
        assert put(client, "after", "The aardvark came after.").status_code == 200
        assert found(client, "aardvark") == ["after"]


@pytest.mark.slow
def test_a_killed_worker_is_replaced_while_the_others_serve(settings):
    with Served(settings, "--workers", "2") as server:
        server.said("serving on", times=2)
        first = int(server.said(r"worker (\d+) started")[1])
        statuses = []
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                # A request that a dying worker had taken is lost with its connection; no other.
                with contextlib.suppress(httpx.TransportError):
                    response = httpx.post(
                        f"{server.url}/v1/search", json={"index": "tiny", "query": "radium"}
                    )
                    statuses.append(response.status_code)

        asker = threading.Thread(target=ask)
        asker.start()
        os.kill(first, signal.SIGKILL)
        server.said(rf"worker {first} ended with -9")
        server.said("serving on", times=3)
        n_before = len(statuses)
        while len(statuses) < n_before + 20:
            time.sleep(0.01)
        stop.set()
        asker.join(30)
        assert set(statuses) == {200}
        text = httpx.get(f"{server.url}/metrics").text
        counted = re.search(
            r'evident_responses_total{path="/v1/search",status="200"} ([\d.]+)', text
        )
        assert float(counted[1]) >= 20
        with httpx.Client(base_url=server.url) as client:
            assert put(client, "fresh", "An okapi appeared.").status_code == 200
        for _ in range(10):  # whichever worker answers
            with httpx.Client(base_url=server.url) as client:
                assert found(client, "okapi") == ["fresh"]
    assert server.process.returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a tmpfs is refused: run as root to see a full disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_refuses_writes_and_serves_what_there_is(tiny_index, small_disk, is_problem):
    shutil.copytree(tiny_index.root / "tiny", small_disk / "tiny")
    settings = msgspec.structs.replace(tiny_index, root=small_disk)
    text = "".join(chr(random.Random(1).randint(97, 122)) for _ in range(40_000))
    acknowledged = []
    with app_over(settings) as client:
        for number in range(200):
            response = put(client, f"new{number}", f"quagga{number} {text}")
            if response.status_code != 200:
                break
            acknowledged.append(f"new{number}")
        problem = is_problem(response, 507, "storage-full")
        assert str(small_disk) not in json.dumps(problem)
        assert acknowledged
        for key in acknowledged:
            assert found(client, key.replace("new", "quagga")) == [key]
        is_problem(
            client.post(
                "/v1/indexes/made/builds",
                json={"documents": [{"id": "x", "text": "y " * 1_000_000}], "retrievers": ["bm25"]},
            ),
            507,
            "storage-full",
        )
        (small_disk / "ballast").unlink(missing_ok=True)
        subprocess.run(
            ["mount", "-o", f"remount,size={3 * TMPFS_BYTES}", str(small_disk)], check=True
        )
        assert put(client, "later", "An okapi found room.").status_code == 200
        assert found(client, "okapi") == ["later"]
    snapshot = Snapshot(small_disk / "tiny", checksums=True)
    assert set(acknowledged) <= set(snapshot.live_ids())
    snapshot.close()


@pytest.fixture
def two_indexes(settings):
    shutil.copytree(settings.root / "tiny", settings.root / "other")
    manifest = settings.root / "other" / "manifest.json"
    envelope = json.loads(manifest.read_text())
    assert envelope["manifest"]["name"] == "tiny"
    return settings


def damage(folder, name, how):
    (file,) = folder.glob(f"segments/*/{name}")
    content = bytearray(file.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    return file


def verify(settings, name):
    """In a process of its own: this one's server loads models, and keeps quiet while it does."""
    command = ["index", "verify", name, "--root", str(settings.root)]
    return subprocess.run(
        [sys.executable, "-m", "rag.cli.main", *command],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ["truncated", "flipped"])
@pytest.mark.parametrize("name", ["documents.duckdb", "passages.npy"])
def test_a_damaged_segment_is_quarantined_and_the_others_are_served(
    two_indexes, is_problem, until, name, how
):
    folder = index_folder(two_indexes.root, "other")
    file = damage(folder, name, how)
    with app_over(two_indexes) as client:
        until(lambda: client.get("/v1/indexes").json()["quarantined"] == ["other"])
        response = client.post("/v1/search", json={"index": "other", "query": "radium"})
        is_problem(response, 500, "corrupt-index")
        assert str(two_indexes.root) not in response.text
        assert found(client, "radium") == ["radium"]
        verified = verify(two_indexes, "other")
        assert verified.returncode == 1
        assert f"{file.parent.name}/{name}" in verified.stderr
        assert verify(two_indexes, "tiny").returncode == 0
        # A whole index put in its place is served again, without a restart.
        shutil.rmtree(folder)
        shutil.copytree(two_indexes.root / "tiny", folder)
        os.utime(folder / "manifest.json")
        assert found(client, "radium", index="other") == ["radium"]
        assert client.get("/v1/indexes").json()["quarantined"] == []


def test_damage_is_seen_only_once_for_a_snapshot(two_indexes):
    damage(index_folder(two_indexes.root, "other"), "passages.npy", "flipped")
    service = Service(two_indexes)
    for _ in range(2):
        with pytest.raises(CorruptIndex, match=r"passages\.npy"):
            service._indexes.verify("other")
    assert service.quarantined() == ["other"]
    service.close()
