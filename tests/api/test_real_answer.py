"""`/v1/answer` from a real index, through the real prompt, decoding loop and citations.

Only the weights are made up (see `by_heart`).
"""

import json
import socket

import httpx
import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # not beside a server thread: 3.11 may fail
from by_heart import ByHeart, Recital
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

pytestmark = pytest.mark.slow

SENTENCE = "Penicillin was discovered by Alexander Fleming in 1928."
ASKED = {"index": "tiny", "query": "Who discovered penicillin?", "min_evidence": 0}
LONG_STEP_S = 2.0


def test_an_answer_cites_what_supports_it(answering):
    with answering(ByHeart(SENTENCE)) as live:
        response = httpx.post(f"{live.url}/v1/answer", json=ASKED, timeout=60)
    assert response.status_code == 200, response.text
    answered = response.json()
    assert answered["status"] == "ok"
    assert answered["answer"] == SENTENCE
    evidence = {hit["id"]: hit["text"] for hit in answered["evidence"]}
    (citation,) = answered["citations"]
    assert citation["hit_id"] == "penicillin"
    cited = evidence["penicillin"][citation["source_start"] : citation["source_end"]]
    assert "Alexander Fleming" in cited
    assert SENTENCE[citation["start"] : citation["end"]].startswith("Penicillin")
    assert answered["decode"]["finish_reason"] == "stop"
    assert answered["usage"]["completion_tokens"] > 0


def test_what_is_read_shortened_is_cited_in_full(answering):
    with answering(ByHeart(SENTENCE)) as live:
        plain = httpx.post(f"{live.url}/v1/answer", json=ASKED, timeout=60).json()
        response = httpx.post(
            f"{live.url}/v1/answer", json=ASKED | {"compress": {"rate": 0.4}}, timeout=60
        )
    assert response.status_code == 200, response.text
    answered = response.json()
    for part in ("answer", "citations", "evidence"):
        assert answered[part] == plain[part]
    usage = answered["usage"]
    assert plain["usage"]["compressed_tokens"] == plain["usage"]["prompt_tokens"]
    assert usage["prompt_tokens"] == plain["usage"]["prompt_tokens"]
    n_evidence = sum(len(hit["text"]) for hit in answered["evidence"])
    assert usage["prompt_tokens"] - usage["compressed_tokens"] >= 0.55 * n_evidence
    assert answered["timings_ms"]["compress"] > 0


def test_decoding_stops_within_a_step_of_the_client_leaving(answering, until):
    model = ByHeart("so it goes " * 200, step_s=0.05)
    with answering(model) as live:
        host, _, port = live.url.removeprefix("http://").partition(":")
        request = httpx.Client().build_request(
            "POST", f"{live.url}/v1/answer", json=ASKED | {"decode": {"max_tokens": 1000}}
        )
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(f"POST /v1/answer HTTP/1.1\r\n{head}\r\n".encode() + request.read())
            until(lambda: model.steps >= 5)
            model.step_s = LONG_STEP_S
        check_it_stops(live, model, until)


def check_it_stops(live, model, until):
    """A step is so long that a busy machine sees the hang-up within it, or within the next."""
    left_at = model.steps
    until(lambda: 'evident_running{lane="answer"} 0.0' in metrics(live))
    assert model.steps - left_at <= 2


def open_stream(live, **more):
    """A raw connection on which a streamed answer begins to come; its reader takes little."""
    host, _, port = live.url.removeprefix("http://").partition(":")
    request = httpx.Client().build_request(
        "POST", f"{live.url}/v1/answer", json=ASKED | {"stream": True} | more
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(30)
    connection.connect((host, int(port)))
    connection.sendall(f"POST /v1/answer HTTP/1.1\r\n{head}\r\n".encode() + request.read())
    return connection


def test_a_reader_that_leaves_a_stream_stops_the_decoding_within_a_step(answering, until):
    model = ByHeart("so it goes " * 200, step_s=0.05)
    with answering(model) as live:
        with open_stream(live, decode={"max_tokens": 1000}) as connection:
            received = b""
            while received.count(b"event: token") < 5:
                received += connection.recv(256)
            model.step_s = LONG_STEP_S
        check_it_stops(live, model, until)


def test_a_reader_that_does_not_read_holds_up_nobody_and_misses_nothing(answering, until):
    model = ByHeart("so it goes " * 80)
    with answering(model) as live, open_stream(live, decode={"max_tokens": 900}) as connection:
        until(lambda: model.steps > 10)
        # The answer is written to its end though nobody reads it, and the thread is free.
        until(lambda: 'evident_running{lane="answer"} 0.0' in metrics(live))
        other = httpx.post(f"{live.url}/v1/answer", json=ASKED, timeout=60)
        assert other.status_code == 200
        received = b""
        while b"event: done" not in received and b"event: error" not in received:
            piece = connection.recv(4096)
            assert piece, received[-300:]
            received += piece
    told = "".join(
        json.loads(line.removeprefix(b"data: "))["text"]
        for line in received.split(b"\n")
        if line.startswith(b'data: {"text":')
    )
    assert told == model.sentence[: len(told)]
    assert len(told) >= 800


def test_a_model_that_fails_in_the_middle_is_one_error_and_the_next_answer_is_whole(answering):
    class Fragile(ByHeart):
        fails = True

        def open_context(self):
            return Breaks(self)

    class Breaks(Recital):
        def forward(self, token_ids, *, last_only=False):
            if self.model.fails and self.model.steps >= 6:
                raise RuntimeError("the weights at /secret are gone")
            return super().forward(token_ids, last_only=last_only)

    model = Fragile(SENTENCE)
    with answering(model) as live:
        text = httpx.post(f"{live.url}/v1/answer", json=ASKED | {"stream": True}, timeout=60).text
        model.fails = False
        after = httpx.post(f"{live.url}/v1/answer", json=ASKED, timeout=60).json()
    assert text.count("event: token") >= 1
    assert (text.count("event: error"), text.count("event: done")) == (1, 0)
    assert text.rstrip().split("\n\n")[-1].split("\n")[1] == "event: error"
    assert "/secret" not in text
    assert after["answer"] == SENTENCE


def metrics(live):
    return httpx.get(f"{live.url}/metrics").text


def test_a_deadline_ends_decoding(answering, is_problem):
    with answering(ByHeart("so it goes " * 200, step_s=0.05)) as live:
        asked = ASKED | {"decode": {"max_tokens": 1000}, "timeout_ms": 700}
        response = httpx.post(f"{live.url}/v1/answer", json=asked, timeout=60)
    is_problem(response, 504, "deadline-exceeded")


def test_no_well_formed_question_breaks_the_server(answering, checks):
    with answering(ByHeart(SENTENCE)) as live:
        api = schemathesis.openapi.from_url(f"{live.url}/schema/openapi.json")
        statuses = set()

        @settings(
            max_examples=15,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(api["/v1/answer"]["POST"].as_strategy(generation_mode=GenerationMode.POSITIVE))
        def ask(case):
            for query in (case.body["query"], "who discovered penicillin?"):
                case.body |= {"index": "tiny", "query": query, "min_evidence": 0}
                case.body.pop("timeout_ms", None)
                case.body.pop("locate", None)  # by a model that is not in this server's cache
                response = case.call_and_validate(checks=checks)
                statuses.add(response.status_code)

        ask()
    assert 200 in statuses
