"""`"stream": true`: events in order, exactly one that ends, clients that leave, failures midway."""

import json
import socket
import threading
import time

import httpx
import pytest

from api import event_stream
from indexes.errors import DeadlineExceeded

ASKED = {"index": "few", "query": "penicillin", "stream": True}
TERMINAL = {"done", "error"}
HOUR_S = 3600.0


def events_of(text):
    """(id, name, data) of each event; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines)
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def check_order(found):
    """Ids count up from 1; evidence comes first; one terminal event, at the end."""
    assert [number for number, _, _ in found] == list(range(1, len(found) + 1))
    names = [name for _, name, _ in found]
    assert names[0] == "evidence"
    assert [name for name in names if name in TERMINAL] == names[-1:]


@pytest.mark.parametrize("path", ["/v1/answer", "/answer"])
def test_the_events_are_the_answer(service, limits, live_server, path):
    with live_server(service, limits) as live:
        plain = httpx.post(f"{live.url}{path}", json=ASKED | {"stream": False}).json()
        service.words_written = 0
        response = httpx.post(f"{live.url}{path}", json=ASKED, headers={"X-Request-ID": "r-1"})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-request-id"] == "r-1"
    found = events_of(response.text)
    check_order(found)
    by_name = {}
    for _, name, data in found:
        by_name.setdefault(name, []).append(data)
    assert by_name["evidence"][0]["evidence"] == plain["evidence"]
    assert "".join(token["text"] for token in by_name["token"]) == plain["answer"]
    assert by_name["citation"] == plain["citations"]
    (done,) = by_name["done"]
    assert done | {"request_id": ""} == plain | {"request_id": ""}
    assert done["request_id"] == "r-1"


def test_no_evidence_is_a_short_stream(service, limits, live_server):
    with live_server(service, limits) as live:
        text = httpx.post(f"{live.url}/v1/answer", json=ASKED | {"query": "zzz"}).text
    assert [name for _, name, _ in events_of(text)] == ["evidence", "done"]
    assert events_of(text)[-1][2]["status"] == "no_evidence"


def test_what_fails_before_anything_is_said_is_a_plain_problem(
    service, limits, live_server, is_problem
):
    with live_server(service, limits) as live:
        absent = httpx.post(f"{live.url}/v1/answer", json=ASKED | {"index": "absent"})
        wrong = httpx.post(f"{live.url}/v1/answer", json=ASKED | {"stream": "yes"})
    is_problem(absent, 404, "index-not-found")
    is_problem(wrong, 422, "invalid-input")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "slug", "words"),
    [
        (DeadlineExceeded("the time ran out"), "deadline-exceeded", "the time ran out"),
        (RuntimeError("/secret/path"), "internal-error", "The server's log has the reason"),
    ],
)
def test_a_failure_midway_is_one_error_event(
    few_documents, limits, live_server, error, slug, words
):
    class Fails(few_documents):
        def answer(self, request, *, on_text=None, **how):
            def say(text):
                on_text(text)
                raise error

            return super().answer(request, on_text=say, **how)

    with live_server(Fails(), limits) as live:
        found = events_of(httpx.post(f"{live.url}/v1/answer", json=ASKED).text)
        assert httpx.get(f"{live.url}/livez").status_code == 200
    check_order(found)
    assert [name for _, name, _ in found] == ["evidence", "token", "error"]
    problem = found[-1][2]
    assert problem["type"] == f"urn:evident:problem:{slug}"
    assert words in problem["detail"]
    assert "secret" not in json.dumps(problem)


def test_decoding_stops_when_the_reader_leaves(few_documents, limits, live_server, until):
    service = few_documents(word_s=0.1)
    with live_server(service, limits) as live:
        with httpx.stream("POST", f"{live.url}/v1/answer", json=ASKED, timeout=60) as response:
            for line in response.iter_lines():
                if line == "event: token":
                    service.word_s = HOUR_S
                    break
        until(service.stopped.is_set)
        assert service.words_written < len(["Penicillin", "was", "discovered", "by", "Alexander"])
        assert httpx.get(f"{live.url}/livez").status_code == 200


@pytest.mark.slow
def test_a_slow_reader_gets_everything(service, limits, live_server):
    with live_server(service, limits) as live:
        host, _, port = live.url.removeprefix("http://").partition(":")
        body = json.dumps(ASKED).encode()
        head = f"POST /v1/answer HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            received = b""
            while b"event: done" not in received:
                received += connection.recv(64)
                time.sleep(0.002)
                assert httpx.get(f"{live.url}/livez").status_code == 200
    assert received.count(b"event: token") == len(["Penicillin", "was", "discovered", "by"]) + 4


@pytest.mark.slow
def test_silence_is_kept_alive(few_documents, limits, live_server, monkeypatch):
    defaults = (0.02,)
    monkeypatch.setattr(event_stream.stream, "__defaults__", defaults)
    service = few_documents(word_s=0.2)
    with live_server(service, limits) as live:
        text = httpx.post(f"{live.url}/v1/answer", json=ASKED, timeout=20).text
    assert text.count(": ping\n\n") >= 5
    check_order(events_of(text))


@pytest.mark.slow
def test_many_streams_at_once_and_threads_stay_bounded(service, limits, live_server):
    service.word_s = 0.01
    found = []
    with live_server(service, limits) as live:

        def ask():
            found.append(events_of(httpx.post(f"{live.url}/v1/answer", json=ASKED).text))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert len(found) == 8
    for one in found:
        check_order(one)
