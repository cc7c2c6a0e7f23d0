"""What every language that embeds Apex has to do, by the list that they share, against the installed package."""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cases import cases, hello_agent, read, shout

from netra_apex import (
    Apex,
    Context,
    ToolContext,
    tool,
)

CASES: list[dict[str, str]] = json.loads((Path(__file__).resolve().parents[2] / "embedded.json").read_text())

for module in ("runs", "errors", "seams"):
    import_module(f"cases.{module}")


def test_every_case_is_there() -> None:
    assert {one["name"] for one in CASES} == cases.keys()


@pytest.mark.parametrize("name", [one["name"] for one in CASES])
def test_case(name: str, tmp_path: Path) -> None:
    asyncio.run(asyncio.wait_for(cases[name](tmp_path), 30))


def test_tool_context(tmp_path: Path) -> None:
    @tool(effect="read")
    async def reading(file: str, context: ToolContext) -> dict[str, Any]:
        told, content = await context.file(file), await context.read_file(file)
        kept = await context.put_artifact("copy.txt", content)
        assert await context.artifact(kept.artifact) == content
        context.progress(1, 1, "files")
        context.summarise("copied it")
        return {"name": told.name, "key": context.idempotency_key, "user": context.user.id}

    async def calling(files: list[str], context: Context) -> str:
        made = await context.call(reading, file=files[0])
        assert (await context.now()).year >= 2025
        assert await context.random() != await context.random()
        context.progress(1, 2)
        await context.degraded("not all of it")
        return f"{made['name']} {made['user'] == context.user.id} {bool(made['key'])}"

    async def main() -> None:
        async with Apex(agents=[calling], tools=[reading]) as apex:
            file = await apex.upload(b"abc", name="a.txt")
            run = await apex.start("go", files=[file.file])
            assert (await run.answer()).text == "a.txt True True"
            events = await read(run)
            assert [e["data"]["summary"] for e in events if e["type"] == "tool_completed"] == ["copied it"]
            assert [a.name for a in await apex.artifacts(run.id)] == ["copy.txt"]

    asyncio.run(main())


def test_run_for_scripts() -> None:
    assert Apex(agents=[hello_agent], tools=[shout]).run("hello").text == "hello!"
