"""`rag mcp` as the protocol's own client sees it: a child process, and a server in this one."""

import asyncio
import sys
import time

import pytest
from by_heart import ByHeart
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

from rag.cli.main import main
from rag.cli.mcp import make_server

SENTENCE = "Penicillin was discovered by Alexander Fleming in 1928."
QUESTION = {"index": "tiny", "query": "Who discovered penicillin?"}


@pytest.fixture
def child(tiny_index):
    """`rag mcp` in a process of its own."""
    arguments = ["-m", "rag.cli.main", "mcp", "--root", str(tiny_index.root)]
    environment = {"RAG_GENERATOR": tiny_index.generator, "OMP_NUM_THREADS": "1"}
    return StdioServerParameters(command=sys.executable, args=arguments, env=environment)


@pytest.fixture
def within(tiny_index, with_model):
    """The same server in this process, with a model that knows one sentence."""
    service = with_model(tiny_index, ByHeart(SENTENCE))
    yield make_server(service)
    service.close()


def talk(server, conversation):
    """The outcome of `conversation(client)`."""

    async def run():
        async with Client(server, read_timeout_seconds=60) as client:
            return await conversation(client)

    return asyncio.run(run())


def call(server, tool, arguments):
    return talk(server, lambda client: client.call_tool(tool, arguments))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_child_process_speaks_the_protocol(child, mode):
    async def converse():
        async with Client(child, read_timeout_seconds=60, mode=mode) as client:
            listed = await client.list_tools()
            found = await client.call_tool("search", QUESTION | {"limit": 2})
            nothing = await client.call_tool("answer", QUESTION | {"query": "zebra crossings"})
            failed = await client.call_tool("answer", QUESTION)
            again = await client.call_tool("search", QUESTION)
            return listed.tools, found, nothing, failed, again

    tools, found, nothing, failed, again = asyncio.run(converse())
    assert {tool.name for tool in tools} == {"search", "answer"}
    for tool in tools:
        assert tool.input_schema["type"] == "object"
        assert tool.input_schema["required"] == ["index", "query"]
    assert not found.is_error
    assert found.content[0].text.startswith("[1] Penicillin\n")
    hits = found.structured_content["hits"]
    assert [hit["id"] for hit in hits] == ["penicillin", "radium"]
    assert nothing.structured_content["status"] == "no_evidence"
    assert failed.is_error
    assert not again.is_error


def test_an_answer_comes_with_what_bears_it_out(within):
    said = call(within, "answer", QUESTION)
    assert not said.is_error
    answer, *support = said.content[0].text.split("\n")
    assert answer == SENTENCE
    assert support[0].startswith(f"“{SENTENCE}”: Penicillin says “Penicillin was discovered")
    (citation,) = said.structured_content["citations"]
    assert citation["hit_id"] == "penicillin"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "index"),
        (QUESTION | {"limit": 0}, "limit"),
        (QUESTION | {"index": "../etc"}, "index"),
        (QUESTION | {"filter": {"must": [{"field": "year"}]}}, "exactly one of match"),
        (QUESTION | {"depth": 1}, "depth"),
        (QUESTION | {"index": "absent"}, "absent"),
    ],
)
def test_what_is_wrong_is_told_to_the_agent(within, arguments, words):
    said = call(within, "search", arguments)
    assert said.is_error
    assert words in said.content[0].text


def test_filters_count(within):
    early = {"must": [{"field": "year", "range": {"lt": 1900}}]}
    said = call(within, "search", {"index": "tiny", "query": "discovered", "filter": early})
    assert [hit["id"] for hit in said.structured_content["hits"]] == ["radium"]


def test_an_unknown_tool_is_an_error_of_the_protocol(within):
    async def converse(client):
        try:
            return await client.call_tool("delete_everything", {})
        except MCPError as error:
            return error.message

    assert talk(within, converse) == "there is no tool 'delete_everything'"


def test_the_agent_is_told_which_indexes_there_are(within):
    async def converse(client):
        return client.instructions

    assert "tiny" in talk(within, converse)


@pytest.mark.slow
def test_decoding_stops_when_the_agent_no_longer_wants_it(tiny_index, with_model):
    model = ByHeart("so it goes " * 200, step_s=0.5)
    service = with_model(tiny_index, model)

    async def converse(client):
        try:
            await client.call_tool("answer", QUESTION, read_timeout_seconds=5)
        except MCPError:
            return True

    assert talk(make_server(service), converse)
    settled = -1
    while settled != model.steps:
        settled = model.steps
        time.sleep(1)
    assert 0 < settled < len(model.script)
    service.close()


def test_without_the_package_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    assert main(["mcp", "--root", str(tmp_path)]) == 2
    assert "evident-rag[mcp]" in capsys.readouterr().err
