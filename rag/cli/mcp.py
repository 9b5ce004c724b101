"""`rag mcp`: search and answers as tools for agents, over stdin and stdout (MCP)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from indexes.errors import EvidentError, UsageError

if TYPE_CHECKING:
    from mcp.server import Server
    from mcp.types import CallToolResult

    from rag.config import Settings
    from rag.service import Service
    from rag.tools import Tool

HELP = "serve search and answers to agents: Model Context Protocol over stdin and stdout"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag mcp`."""
    parser = subparsers.add_parser("mcp", parents=[common], help=HELP, description=HELP)
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    from rag.service import Service

    service = Service(settings)
    try:
        asyncio.run(_serve(service))
    finally:
        service.close()
    return 0


async def _serve(service: Service) -> None:
    server = make_server(service)
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def make_server(service: Service) -> Server[Any]:
    """The server of the tools. Raises `UsageError` where the protocol's package is missing."""
    try:
        from mcp.server import Server
        from mcp.shared.exceptions import MCPError
        from mcp.types import INVALID_PARAMS, CallToolRequestParams, ListToolsResult
        from mcp.types import Tool as ListedTool
    except ImportError as error:
        raise UsageError("rag mcp needs a package more: pip install 'evident-rag[mcp]'") from error
    from rag.tools import TOOLS, schema_of

    async def list_tools(_context: Any, _params: Any) -> ListToolsResult:
        tools = [
            ListedTool(
                name=name, description=tool.description, input_schema=schema_of(tool.arguments)
            )
            for name, tool in TOOLS.items()
        ]
        return ListToolsResult(tools=tools)

    async def call_tool(_context: Any, params: CallToolRequestParams) -> CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name!r}")
        return await _called(service, tool, params.arguments or {})

    indexes = ", ".join(service.index_names()) or "none yet"
    return Server(
        "evident",
        version=service.info().version,
        instructions=f"Search and answers with citations. Indexes: {indexes}.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _called(service: Service, tool: Tool, arguments: dict[str, Any]) -> CallToolResult:
    """What the tool says. Its failures are told to the agent, which may ask otherwise."""
    import asyncio
    import threading

    import msgspec
    from mcp.types import CallToolResult, TextContent

    cancel = threading.Event()
    try:
        asked = msgspec.convert(arguments, tool.arguments)
        told = await asyncio.to_thread(tool.call, service, asked, cancel)
    except (EvidentError, msgspec.ValidationError) as error:
        return CallToolResult(content=[TextContent(text=str(error))], is_error=True)
    finally:
        # Also when the agent no longer wants it: decoding stops within a step.
        cancel.set()
    return CallToolResult(
        content=[TextContent(text=told.text)], structured_content=msgspec.to_builtins(told.response)
    )
