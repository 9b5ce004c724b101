"""Builds over REST: they outlive servers and workers, stop when told, and happen once."""

import json
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.limits import Limits
from rag.config import Settings
from rag.jobs import shelf
from rag.jobs.desk import Desk
from rag.jobs.job import BuildOrder
from rag.jobs.worker import MAX_ATTEMPTS, work
from rag.service import Service

DOCUMENTS = [
    {"id": "penicillin", "text": "Penicillin was discovered by Alexander Fleming in 1928."},
    {
        "id": "radium",
        "title": "Radium",
        "text": "Found by Marie Curie.",
        "metadata": {"year": 1898},
    },
]
BUILD = {"documents": DOCUMENTS, "retrievers": ["bm25"]}
MANY = 6_000


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def settings(tmp_path):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    return Settings(
        root=tmp_path / "root",
        cache=tmp_path / "cache",
        inputs=inputs,
        compressor="none",
        sentence_scorer="none",
    )


@pytest.fixture
def many(settings):
    """The name of an input that takes a few seconds to index."""
    rows = ({"id": str(n), "text": f"document {n} on topic{n % 97} " * 40} for n in range(MANY))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (settings.inputs / "many.jsonl").write_text(text)
    return "many.jsonl"


class Server:
    """An app that can be left and entered again."""

    def __init__(self, settings, limits):
        self.service = Service(settings)
        self.desk = Desk(settings)
        app = create_app(self.service, limits, desk=self.desk)
        self.client = TestClient(app, raise_server_exceptions=False)

    def __enter__(self):
        self.client.__enter__()
        return self

    def __exit__(self, *_):
        self.client.__exit__(None, None, None)
        self.service.close()

    def order(self, name="made", build=BUILD, key=None):
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.client.post(f"/v1/indexes/{name}/builds", json=build, headers=headers)

    def job(self, job_id):
        response = self.client.get(f"/v1/jobs/{job_id}")
        assert response.status_code == 200, response.text
        return response.json()["job"]

    def ended(self, job_id, timeout_s=60):
        return self.when(job_id, lambda job: job["finished"], timeout_s)

    def when(self, job_id, condition, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while not condition(job := self.job(job_id)):
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        return job

    def found(self, query, name="made"):
        response = self.client.post("/v1/search", json={"index": name, "query": query})
        return [hit["id"] for hit in response.json().get("hits", [])]


@pytest.fixture
def server(settings, limits):
    with Server(settings, limits) as server:
        yield server
    if server.desk._worker is not None:
        server.desk._worker.wait()


def is_halfway(job):
    return job["progress"] is not None and job["progress"]["done"] > 0


def worker_of(settings):
    """The process that works on this root's jobs."""
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = status.read_bytes()
        except OSError:
            continue
        if b"rag.jobs.worker" in line and str(settings.root).encode() in line:
            return int(status.parent.name)
    return None


@pytest.mark.slow
def test_an_order_becomes_an_index(server):
    response = server.order()
    assert response.status_code == 202, response.text
    ordered = response.json()["job"]
    assert response.headers["location"] == f"/v1/jobs/{ordered['id']}"
    assert ordered["state"] in {"queued", "running"}
    job = server.ended(ordered["id"])
    assert (job["state"], job["n_documents"], job["n_rejected"]) == ("done", 2, 0)
    assert job["index_version"] == 1
    assert server.found("who found radium?") == ["radium"]
    described = server.client.get("/v1/indexes/made").json()["info"]
    assert described["n_documents"] == 2
    again = server.ended(
        server.order(build=BUILD | {"documents": DOCUMENTS[:1]}).json()["job"]["id"]
    )
    assert (again["state"], again["index_version"]) == ("done", 2)
    assert server.found("who found radium?") == []


@pytest.mark.slow
def test_rejected_documents_are_told(server, settings):
    bad = [{"id": "penicillin", "text": "x"}, {"text": "no id"}, {"id": "e", "text": " "}]
    job = server.ended(
        server.order(build=BUILD | {"documents": [*DOCUMENTS, *bad]}).json()["job"]["id"]
    )
    assert (job["state"], job["n_documents"], job["n_rejected"]) == ("done", 2, 3)
    assert [reject["line"] for reject in job["rejects"]] == [3, 4, 5]
    assert "duplicate" in job["rejects"][0]["reason"]
    assert str(settings.root) not in json.dumps(job)


@pytest.mark.slow
def test_a_failure_says_why_and_changes_nothing(server):
    job = server.ended(
        server.order(build=BUILD | {"documents": [{"text": "?"}]}).json()["job"]["id"]
    )
    assert job["state"] == "failed"
    assert "no usable document" in job["error"]
    assert server.client.get("/v1/indexes/made").status_code == 404


@pytest.mark.slow
def test_the_same_key_orders_once(server, is_problem):
    first = server.order(key="k-1").json()["job"]
    assert server.order(key="k-1").json()["job"]["id"] == first["id"]
    other = BUILD | {"documents": DOCUMENTS[:1]}
    is_problem(server.order(build=other, key="k-1"), 422, "invalid-input")
    assert server.order(key="k-2").json()["job"]["id"] != first["id"]
    assert server.order(name="another", key="k-1").json()["job"]["id"] != first["id"]
    assert server.order().json()["job"]["id"] != server.order().json()["job"]["id"]
    is_problem(server.order(key="a b"), 422, "invalid-input")
    assert server.ended(first["id"])["state"] == "done"
    assert server.order(key="k-1").json()["job"]["state"] == "done"


@pytest.mark.parametrize(
    ("build", "words"),
    [
        ({"retrievers": ["bm25"]}, "neither documents nor inputs"),
        (BUILD | {"retrievers": ["bm25", "bm25"]}, "each once"),
        (BUILD | {"retrievers": ["nobody"]}, "bm25"),
        (BUILD | {"inputs": ["absent.jsonl"]}, "absent.jsonl"),
        (BUILD | {"inputs": ["link"]}, "link"),
        (BUILD | {"inputs": ["../inputs"]}, "regex"),
        (BUILD | {"inputs": ["/etc/passwd"]}, "regex"),
        (BUILD | {"inputs": [".."]}, "regex"),
        (BUILD | {"path": "x"}, "unknown field"),
    ],
)
def test_what_no_build_could_do(server, settings, is_problem, build, words):
    (settings.inputs / "link").symlink_to("/etc")
    response = server.order(build=build)
    assert response.status_code == 422
    assert words in response.json()["detail"]


def test_jobs_that_are_not_there(server, is_problem):
    for job in ("0" * 32, "x", "..%2f..", "new-0"):
        is_problem(server.client.get(f"/v1/jobs/{job}"), 404, "not-found")
        is_problem(server.client.delete(f"/v1/jobs/{job}"), 404, "not-found")


def test_too_many_pending_jobs_are_refused(settings, is_problem, monkeypatch):
    monkeypatch.setattr(Desk, "tend", lambda self: None)
    with Server(settings, Limits(max_pending_jobs=2)) as server:
        assert [server.order().status_code for _ in range(2)] == [202, 202]
        is_problem(server.order(), 429, "overloaded")


@pytest.mark.slow
def test_a_job_is_cancelled_and_leaves_the_index_as_it_was(server, many):
    assert server.ended(server.order().json()["job"]["id"])["state"] == "done"
    running = server.order(build={"inputs": [many], "retrievers": ["bm25"]}).json()["job"]["id"]
    waiting = server.order().json()["job"]["id"]
    server.when(running, is_halfway)
    for job_id in (waiting, running):
        assert server.client.delete(f"/v1/jobs/{job_id}").status_code == 200
    for job_id in (running, waiting):
        assert server.ended(job_id, timeout_s=10)["state"] == "cancelled"
    assert server.client.get("/v1/indexes/made").json()["info"]["n_documents"] == 2
    assert server.client.delete(f"/v1/jobs/{running}").json()["job"]["state"] == "cancelled"


@pytest.mark.slow
def test_a_job_outlives_the_server_and_its_worker(settings, limits, many):
    with Server(settings, limits) as first:
        job_id = first.order(build={"inputs": [many], "retrievers": ["bm25"]}).json()["job"]["id"]
        first.when(job_id, is_halfway)
        pid = worker_of(settings)
    assert worker_of(settings) == pid, "the worker went with the server"
    os.kill(pid, signal.SIGKILL)
    first.desk._worker.wait()
    with Server(settings, limits) as second:
        job = second.ended(job_id)
        assert (job["state"], job["attempts"], job["n_documents"]) == ("done", 2, MANY)
        second.desk._worker.wait()


@pytest.mark.slow
def test_a_worker_that_dies_is_followed_by_another(server, settings, many):
    job_id = server.order(build={"inputs": [many], "retrievers": ["bm25"]}).json()["job"]["id"]
    server.when(job_id, is_halfway)
    os.kill(worker_of(settings), signal.SIGKILL)
    job = server.ended(job_id)
    assert (job["state"], job["attempts"]) == ("done", 2)
    assert server.found("topic13")


def test_a_job_that_kills_its_workers_is_given_up(settings):
    order = shelf.place(settings.root, "0" * 32, "made", msgspec.convert(BUILD, BuildOrder), "d")
    for _ in range(MAX_ATTEMPTS):
        underway = shelf.Underway(shelf.now(), shelf.attempts(settings.root, order.id) + 1)
        shelf.tell(settings.root, order.id, underway)
    work(settings)
    job = shelf.read_job(settings.root, order.id)
    assert job.state == "failed"
    assert "given up" in job.error


def test_orders_that_were_half_written_are_not_seen(settings):
    half = shelf.jobs_folder(settings.root) / "new-0"
    half.mkdir(parents=True)
    (half / shelf.DOCUMENTS).write_bytes(b"{}")
    assert shelf.pending(settings.root) == []


def test_only_the_newest_ended_jobs_are_kept(settings, monkeypatch):
    monkeypatch.setattr(shelf, "KEPT_JOBS", 2)
    build = msgspec.convert(BUILD, BuildOrder)
    for number in range(4):
        shelf.place(settings.root, f"{number:032x}", "made", build, "d")
        shelf.end(settings.root, f"{number:032x}", shelf.Outcome("done", shelf.now()))
    kept = [path.name for path in sorted(shelf.jobs_folder(settings.root).iterdir())]
    assert kept == [f"{number:032x}" for number in (2, 3)]
