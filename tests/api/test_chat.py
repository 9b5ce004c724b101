"""`/v1/chat/completions` as OpenAI's own client sees it: whole, streamed, refused, cut off."""

import json

import httpx
import openai
import pytest
from by_heart import ByHeart

from api.chat_completion import NO_EVIDENCE, UNREAD
from api.gate import Gate
from indexes.errors import DeadlineExceeded
from rag.keys import create_key

SENTENCE = "Penicillin was discovered by Alexander Fleming in 1928."
ASKED = {"model": "few", "messages": [{"role": "user", "content": "Who discovered penicillin?"}]}
NOTHING = {"model": "few", "messages": [{"role": "user", "content": "zzz"}]}


def client_of(live, key="unused"):
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0, timeout=30)


@pytest.fixture
def chat(service, limits, live_server):
    """`chat.completions.create` of a client of a live server."""
    with live_server(service, limits) as live, client_of(live) as client:
        yield client.chat.completions.create


def test_an_answer_is_a_completion(chat):
    completion = chat(**ASKED)
    assert completion.object == "chat.completion"
    assert completion.model == "few"
    (choice,) = completion.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == SENTENCE
    assert choice.finish_reason == "stop"
    grounds = completion.evident
    assert completion.id == f"chatcmpl-{grounds['request_id']}"
    (citation,) = grounds["citations"]
    evidence = {hit["id"]: hit["text"] for hit in grounds["evidence"]}
    source = evidence[citation["hit_id"]]
    assert source[citation["source_start"] : citation["source_end"]] == SENTENCE
    assert (completion.usage.total_tokens, grounds["status"]) == (0, "ok")


def test_a_stream_says_the_same(chat, service):
    whole = chat(**ASKED)
    service.words_written = 0
    chunks = list(chat(**ASKED, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    *said, last, usage = chunks
    assert said[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content for chunk in said)
    assert text == whole.choices[0].message.content
    assert {chunk.choices[0].finish_reason for chunk in said} == {None}
    assert last.choices[0].finish_reason == "stop"
    assert last.evident["citations"] == whole.evident["citations"]
    assert usage.choices == []
    assert usage.usage.total_tokens == 0


@pytest.mark.parametrize("stream", [False, True])
def test_without_evidence_it_refuses(chat, stream):
    reply = chat(**NOTHING, stream=stream)
    said = list(reply)[-1].choices[0].delta if stream else reply.choices[0].message
    assert said.refusal == NO_EVIDENCE
    assert not said.content


def test_it_is_the_answer_of_the_same_question(answering):
    """Over the real pipeline, with the options of both protocols."""
    with answering(ByHeart(SENTENCE)) as live, client_of(live) as client:
        asked = {"index": "tiny", "query": "Who discovered penicillin?", "min_evidence": 0}
        decode = {"max_tokens": 20, "stop": ["Fleming"]}
        answer = httpx.post(
            f"{live.url}/v1/answer", json=asked | {"limit": 1, "decode": decode}, timeout=60
        ).json()
        completion = client.chat.completions.create(
            model="tiny",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": asked["query"]}]},
            ],
            max_completion_tokens=20,
            stop="Fleming",
            extra_body={"evident": {"min_evidence": 0, "limit": 1}},
        )
    assert completion.choices[0].message.content == answer["answer"]
    assert completion.choices[0].finish_reason == answer["decode"]["finish_reason"]
    assert completion.evident["evidence"] == answer["evidence"]
    assert completion.evident["citations"] == answer["citations"]
    assert completion.usage.completion_tokens == answer["usage"]["completion_tokens"]
    assert UNREAD in completion.evident["warnings"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"messages": []}, "/messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user", "content": " "}]}, "/messages/0/content"),
        ({"messages": [{"role": "user"}]}, "/messages/0/content"),
        ({"n": 2}, "/n"),
        ({"logprobs": True}, "/logprobs"),
        ({"presence_penalty": 0.5}, "/presence_penalty"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "/tools"),
        ({"response_format": {"type": "json_schema"}}, "/response_format/json_schema"),
        ({"extra_body": {"evident": {"limt": 1}}}, "/evident/limt"),
    ],
)
def test_what_would_be_ignored_is_refused(chat, change, pointer):
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        chat(**ASKED | change)
    assert refused.value.response.json()["errors"][0]["pointer"] == pointer


def test_an_unknown_index_is_not_found(chat):
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError):
            chat(**ASKED | {"model": "absent", "stream": stream})


def test_a_failure_midway_is_told_in_the_stream(few_documents, limits, live_server):
    class Fails(few_documents):
        def answer(self, request, *, on_text=None, **how):
            def say(text):
                on_text(text)
                raise DeadlineExceeded("the time ran out")

            return super().answer(request, on_text=say, **how)

    with live_server(Fails(), limits) as live, client_of(live) as client:
        said, streamed = [], ASKED | {"stream": True}
        with pytest.raises(openai.APIError, match="the time ran out"):
            said += (c.choices[0].delta.content for c in client.chat.completions.create(**streamed))
    assert said == ["", "Penicillin"]


def test_decoding_stops_when_the_reader_leaves(few_documents, limits, live_server, until):
    service = few_documents(word_s=0.1)
    with live_server(service, limits) as live, client_of(live) as client:
        with client.chat.completions.create(**ASKED, stream=True) as stream:
            for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
        until(service.stopped.is_set, timeout_s=2)
    assert service.words_written < len(SENTENCE.split())


def test_the_stream_ends_as_openai_s_does(service, limits, live_server):
    with live_server(service, limits) as live:
        response = httpx.post(f"{live.url}/v1/chat/completions", json=ASKED | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    for event in events:
        assert json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk"


def test_a_key_of_ours_is_the_client_s_api_key(service, limits, live_server, tmp_path):
    _, token = create_key(tmp_path, "Ann", "read")
    with live_server(service, limits, Gate(tmp_path)) as live:
        with client_of(live, token) as client:
            assert client.chat.completions.create(**ASKED).choices[0].message.content == SENTENCE
        with client_of(live, "sk-wrong") as client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(**ASKED)
