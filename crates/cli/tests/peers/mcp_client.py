"""Asks `tapline mcp` what went wrong, with the client of PyPI `mcp`, and prints what it got as one JSON object.

Arguments: `stdio`, the program and its arguments; or `http`, the address and the token.
"""

import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def ask(read, write):
    async with ClientSession(read, write) as session:
        welcome = await session.initialize()
        tools = await session.list_tools()
        why = await session.call_tool("why", {"max_bytes": 2000})
        wrong = await session.call_tool("why", {"max_bytes": 1})
        welcome = welcome.model_dump(by_alias=True)
        dumped = [answer.model_dump(by_alias=True) for answer in (tools, why, wrong)]
        print(json.dumps({
            "name": welcome["serverInfo"]["name"],
            "tools": [tool["name"] for tool in dumped[0]["tools"]],
            "why": dumped[1]["content"][0]["text"],
            "wrong": dumped[2]["isError"],
        }))


async def main():
    how, *arguments = sys.argv[1:]
    if how == "stdio":
        parameters = StdioServerParameters(command=arguments[0], args=arguments[1:])
        async with stdio_client(parameters) as (read, write):
            await ask(read, write)
    else:
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        url, token = arguments
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as client:
            async with streamable_http_client(url, http_client=client) as streams:
                await ask(streams[0], streams[1])


asyncio.run(main())
