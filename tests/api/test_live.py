"""On a real server: leaving clients, bounded threads, a graceful stop."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from subprocess import PIPE

import httpx
import pytest

from api.server import bind
from indexes.errors import UsageError

ASKED = {"index": "few", "query": "penicillin"}
HOUR_S = 3600.0


def send_and_keep_open(url, path="/v1/answer"):
    """Post a question on a raw socket and return it, so that the caller can hang up."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = json.dumps(ASKED).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


@pytest.fixture
def slow(few_documents):
    """A service that would take hours over a word."""

    class Slow(few_documents):
        def __init__(self):
            super().__init__(word_s=HOUR_S)
            self.running = 0
            self.most_running = 0
            self.lock = threading.Lock()

        def answer(self, request, **how):
            with self.lock:
                self.running += 1
                self.most_running = max(self.running, self.most_running)
            try:
                return super().answer(request, **how)
            finally:
                with self.lock:
                    self.running -= 1

    return Slow()


def test_answering_stops_when_the_client_leaves(slow, limits, live_server, until):
    with live_server(slow, limits) as live:
        connection = send_and_keep_open(live.url)
        until(lambda: slow.running == 1)
        assert not slow.stopped.is_set()
        connection.close()
        until(lambda: slow.running == 0)
        assert slow.stopped.is_set()
        assert slow.words_written == 0
        assert httpx.get(f"{live.url}/livez").status_code == 200


@pytest.mark.slow
def test_a_client_that_stays_gets_its_answer(service, limits, live_server):
    service.word_s = 0.02
    with live_server(service, limits) as live, httpx.Client(base_url=live.url) as client:
        for _ in range(
            3
        ):  # on one connection: watching for a hang-up must not eat the next request
            response = client.post("/v1/answer", json=ASKED)
            assert response.status_code == 200
            assert response.json()["answer"] == response.json()["evidence"][0]["text"]
        assert not service.stopped.is_set()


def test_threads_are_bounded_and_health_does_not_wait_for_them(slow, limits, live_server, until):
    with live_server(slow, limits) as live:
        connections = [send_and_keep_open(live.url) for _ in range(limits.max_concurrency + 3)]
        until(lambda: slow.running == limits.max_concurrency)
        for path in ("/livez", "/readyz", "/v1/indexes", "/v1/info"):
            assert httpx.get(live.url + path, timeout=30).status_code == 200
        for connection in connections:
            connection.close()
        # Those that had been waiting see at once that nobody wants their answer.
        until(lambda: slow.running == 0)
        assert slow.most_running == limits.max_concurrency
        slow.word_s = 0.0
        assert httpx.post(f"{live.url}/v1/answer", json=ASKED, timeout=30).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(
    service, limits, live_server, caplog
):
    with live_server(service, limits) as live:
        host, _, port = live.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            head = "POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert httpx.post(f"{live.url}/v1/search", json=ASKED).status_code == 200
    assert "Traceback" not in caplog.text


@pytest.mark.slow
def test_a_stop_lets_running_answers_finish(service, limits, live_server, until):
    service.word_s = 0.1
    with ThreadPoolExecutor(1) as pool:
        with live_server(service, limits) as live:
            pending = pool.submit(httpx.post, f"{live.url}/v1/answer", json=ASKED, timeout=20)
            until(lambda: service.words_written >= 1)
        response = pending.result()
    assert response.status_code == 200
    assert response.json()["status"] == "ok"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{live.url}/livez")


def test_a_taken_port_is_told_plainly():
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot serve on 127.0.0.1:{port}: .*in use"):
            bind("127.0.0.1", port)


def test_an_address_that_is_none_is_told_plainly():
    with pytest.raises(UsageError, match="cannot serve on no such host:80"):
        bind("no such host", 80)


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_serve_announces_itself_and_stops_on_a_signal(tmp_path, stop, code):
    command = [sys.executable, "-m", "rag.cli.main", "serve", "--port", "0"]
    homes = {"XDG_DATA_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment = os.environ | homes | {"RAG_GENERATOR": str(tmp_path / "absent")}
    # Where the tests run behind a shell's `&`, SIGINT is ignored, and children inherit that.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, env=environment, stderr=PIPE, stdout=PIPE, text=True, preexec_fn=heard
    ) as process:
        try:
            url = announced(process.stderr)
            assert httpx.get(f"{url}/livez").status_code == 200
            assert httpx.get(f"{url}/v1/indexes").json()["indexes"] == []
            assert httpx.get(f"{url}/readyz").status_code == 503
            process.send_signal(stop)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert output == ""


def announced(lines):
    """The address in the log; fails with the log when the server ends without one."""
    said = ""
    for line in lines:
        said += line
        if found := re.search(r"serving on (http://127\.0\.0\.1:\d+)$", line):
            return found[1]
    raise AssertionError(said)


@pytest.mark.slow
def test_a_stop_ends_what_does_not_finish_with_a_clean_error(few_documents, limits, live_server):
    service = few_documents(word_s=HOUR_S)
    streamed, plain = [], []
    with live_server(service, limits, grace_s=4) as live, ThreadPoolExecutor(2) as pool:
        url = f"{live.url}/v1/answer"
        asked = ASKED | {"stream": True}
        stream = pool.submit(lambda: streamed.append(httpx.post(url, json=asked, timeout=60)))
        whole = pool.submit(lambda: plain.append(httpx.post(url, json=ASKED, timeout=60)))
        while f'{{lane="answer"}} {2.0}' not in httpx.get(f"{live.url}/metrics").text:
            time.sleep(0.05)
        live.server.should_exit = True
        stream.result(30)
        whole.result(30)
    assert "event: error" in streamed[0].text
    assert '"type":"urn:evident:problem:cancelled"' in streamed[0].text
    assert plain[0].status_code == 503
    assert plain[0].json()["type"] == "urn:evident:problem:cancelled"
