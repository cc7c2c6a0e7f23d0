"""An MCP client of the official Python SDK, for the tests of the server: `mcp_client.py URL TOKEN`. Prints JSON lines."""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


def said(name: str, what: object) -> None:
    print(json.dumps({"name": name, "what": what}), flush=True)


async def refused(url: str, token: str) -> bool:
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        accept = {"Accept": "application/json, text/event-stream"}
        return (await http.post(url, json=body, headers=accept)).status_code == 401


async def main(url: str, token: str) -> None:
    said("refused", await refused(url, "nobody"))
    for mode in ("auto", "legacy"):
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            tools = (await client.list_tools()).tools
            said(f"{mode} tools", {tool.name: tool.model_dump(by_alias=True, exclude_none=True) for tool in tools})
            answer = await client.call_tool("sum", {"a": 2, "b": 3})
            said(f"{mode} sum", answer.content[0].text)
            answer = await client.call_tool("whoami", {})
            said(f"{mode} whoami", answer.structured_content)
            answer = await client.call_tool("sum", {"a": "two"})
            said(f"{mode} bad", [answer.is_error, answer.content[0].text])
            answer = await client.call_tool("pay", {"cents": 5})
            said(f"{mode} pay", [answer.is_error, answer.content[0].text])
            seen: list[float] = []

            async def progress(far: float, total: float | None, message: str | None, seen: list[float] = seen) -> None:
                seen.append(far)

            await client.call_tool("slow", {"seconds": 0.6}, progress_callback=progress)
            said(f"{mode} progress", seen == sorted(seen) and len(seen) >= 2)
            call = asyncio.create_task(client.call_tool("slow", {"seconds": 60}))
            await asyncio.sleep(0.5)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        said(f"{mode} left", True)
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        calls = (client.call_tool("slow", {"seconds": 2}) for _ in range(3))
        answers = await asyncio.gather(*calls)
        said("at once", sorted(bool(answer.is_error) for answer in answers))


asyncio.run(main(sys.argv[1], sys.argv[2]))
