"""An MCP server of the official Python SDK, for the tests of the client: `server.py NOTES [PORT]`.

Over its standard streams, or over streamable HTTP on a port of loopback. What it did goes into the file NOTES.
"""

import os
import sys
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

NOTES = Path(sys.argv[1])
READS = ToolAnnotations(read_only_hint=True)

server = MCPServer("stranger", log_level="ERROR")


def note(line: str) -> None:
    with NOTES.open("a") as notes:
        notes.write(line + "\n")


@server.tool(annotations=READS)
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool(annotations=ToolAnnotations(read_only_hint=False, idempotent_hint=True))
def keep(text: str) -> str:
    """Keeps a text."""
    note(f"keep {text}")
    return "kept"


@server.tool()
def pay(cents: int) -> str:
    """Pays."""
    note(f"pay {cents}")
    return f"{cents} cents"


@server.tool(annotations=READS, structured_output=False)
def much(size: int) -> str:
    """Gives a long text."""
    return "x" * size


@server.tool(annotations=READS)
def fails() -> str:
    """Fails."""
    raise ToolError("the cellar is flooded")


@server.tool(annotations=READS)
def variable(name: str) -> str:
    """Gives a variable of its environment."""
    return os.environ.get(name, "nothing")


@server.tool(annotations=READS, name="Odd.Name")
def odd() -> str:
    """Has a name that is none here."""
    return "odd"


@server.tool(annotations=READS)
async def slow(ctx: Context) -> str:
    """Takes a minute, and tells how far it is."""
    note("slow began")
    try:
        for far in range(600):
            await ctx.report_progress(far, 600)
            await anyio.sleep(0.1)
    except anyio.get_cancelled_exc_class():
        note("slow was cancelled")
        raise
    return "done"


@server.tool(annotations=READS)
def die() -> str:
    """Ends the process."""
    if not any(line == "died" for line in NOTES.read_text().splitlines()):
        note("died")
        os._exit(1)
    return "alive"


@server.tool(annotations=READS)
async def grow(ctx: Context) -> str:
    """Brings another tool."""
    server.add_tool(lambda: "late", name="late", description="Came late.", annotations=READS)
    await ctx.notify_tools_changed()
    return "grown"


class Guarded:
    """Lets in who has the key."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and Request(scope).headers.get("authorization") != "Bearer key-of-the-test":
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"who are you"})
            return
        await self.app(scope, receive, send)


note("began")
if len(sys.argv) == 2:
    server.run("stdio")
else:
    import uvicorn

    uvicorn.run(Guarded(server.streamable_http_app()), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
