"""Limits, faults and ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cases import assert_whole, case, hello_agent, read, refused, shout
from netra_apex import (
    Apex,
    ApexError,
    ConfigurationError,
    Context,
    LimitError,
    RequestError,
    Run,
    RunError,
    UnavailableError,
    tool,
)
from netra_apex.errors import ERRORS


@case
async def limits(folder: Path) -> None:
    async def calling(text: str, context: Context) -> str:
        return str(await context.call(*json.loads(text)))

    async with Apex(agents=[calling], tools=[shout]) as apex:
        await refused(LimitError, "too_large", apex.ask("x" * 20_000))
        await refused(RequestError, "bad_request", apex.ask("  "))
        await refused(RequestError, "not_found", apex.ask("hello", thread=str(uuid4())))
        await refused(RunError, "bad_arguments", apex.ask('["whisper", {}]'))
        error = await refused(RunError, "bad_arguments", apex.ask('["shout", {"wrod": "a"}]'))
        assert "word" in str(error)
        await refused(RunError, "bad_arguments", apex.ask('["shout", {"word": 3}]'))
        assert (await apex.ask('["shout", {"word": "a"}]')).text == "a!"


@case
async def cancel(folder: Path) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            raise
        return "never"

    async with Apex(agents=[slow]) as apex:
        run = await apex.start("go")
        await asyncio.wait_for(begun.wait(), 10)
        await run.cancel()
        assert_whole(await read(run), "run_cancelled")
        await asyncio.wait_for(stopped.wait(), 10)
        await refused(RunError, "cancelled", run.answer())


@case
async def deadline(folder: Path) -> None:
    stopped = asyncio.Event()

    @tool(timeout=0.05, effect="once")
    async def sleepy() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()
        return "never"

    async def calling(context: Context) -> str:
        return await context.call(sleepy)

    async with Apex(agents=[calling], tools=[sleepy]) as apex:
        run = await apex.start("go")
        error = await refused(ApexError, "deadline_exceeded", run.answer())
        assert "sleepy" in str(error)
        await asyncio.wait_for(stopped.wait(), 10)
        events = await read(run)
        assert [e["data"]["outcome"] for e in events if e["type"] == "tool_completed"] == ["timeout"]


@case
async def raises(folder: Path) -> None:
    def bad_tool() -> str:
        raise ValueError("no such luck")

    async def calling(text: str, context: Context) -> str:
        if text == "agent":
            raise KeyError("mine")
        return await context.call(bad_tool)

    async with Apex(agents=[calling], tools=[bad_tool]) as apex:
        error = await refused(RunError, "tool_failed", apex.ask("tool"))
        assert "ValueError: no such luck (errors.py:" in str(error) and "bad_tool" in str(error)
        error = await refused(RunError, "agent_failed", apex.ask("agent"))
        assert "KeyError: 'mine'" in str(error)
        assert error.retryable and error.correlation


@case
async def codes(folder: Path) -> None:
    async def failing(text: str) -> str:
        raise ApexError(text, f"because of {text}")

    async with Apex(agents=[failing]) as apex:
        for code, row in ERRORS.items():
            if code in ("cancelled", "fenced"):
                continue
            with pytest.raises(ApexError) as caught:
                await apex.ask(code)
            assert caught.value.code == code
            assert caught.value.kind == row.category
            assert type(caught.value).__name__.lower() == f"{row.category}error"
            if row.category not in ("defect", "storage"):
                assert f"because of {code}" in str(caught.value)


@case
async def approval(folder: Path) -> None:
    made: list[int] = []

    def many(arguments: dict[str, Any]) -> bool:
        return arguments["count"] > 1

    @tool(needs_approval=many)
    def order(count: int) -> str:
        made.append(count)
        return f"ordered {count}"

    async def ordering(text: str, context: Context) -> str:
        return await context.call(order, count=int(text))

    async with Apex(agents=[ordering], tools=[order]) as apex:
        assert (await apex.ask("1")).text == "ordered 1"
        for count, decide in (2, Run.approve), (3, Run.deny):
            run = await apex.start(str(count))
            async for event in run:
                if isinstance(event, dict) and event["type"] == "approval_requested":
                    assert event["data"]["arguments"] == {"count": count}
                    await decide(run, event)
            if count == 2:
                assert (await run.answer()).text == "ordered 2"
            else:
                await refused(RunError, "denied", run.answer())
        assert made == [1, 2]


@case
async def bad_configuration(folder: Path) -> None:
    database = folder / "never.db"
    config = {
        "database": {"url": f"sqlite:{database}"},
        "runs": {"runing": 3},
        "server": {"origins": ["nonsense"]},
        "connections": 7,
    }
    environ = {"APEX_RUNS_RUNNING": "many", "OTHER": "x"}
    error = await refused(ConfigurationError, "config_invalid", Apex(config, environ=environ).open())
    assert isinstance(error, ConfigurationError)
    keys = {fault["key"]: fault for fault in error.faults}
    assert {"runs.runing", "server.origins", "runs.running", "connections"} <= keys.keys()
    assert keys["runs.running"]["source"] == "APEX_RUNS_RUNNING"
    assert keys["runs.runing"]["source"] == "host"
    assert "running" in keys["runs.runing"]["advice"]
    assert not database.exists()
    error = await refused(ConfigurationError, "config_invalid", Apex(agents=[hello_agent, hello_agent]).open())
    assert "twice" in str(error)


@case
async def bad_values(folder: Path) -> None:
    around: list[Any] = []
    around.append(around)
    bad: dict[str, tuple[Any, str]] = {
        "nan": (float("nan"), "NaN"),
        "surrogate": ("\ud800", "surrogate"),
        "key": ({1: 2}, "keys"),
        "big": (1 << 70, "64 bits"),
        "around": (around, "deep"),
        "object": (object(), "object is no JSON"),
        "bytes": (b"x", "bytes is no JSON"),
    }

    def giving(name: str) -> Any:
        return {"value": bad[name][0]}

    async def calling(text: str, context: Context) -> Any:
        if text == "none":
            return await context.call(giving, name=None)
        if text.startswith("call "):
            await context.call(giving, bad[text[5:]][0] if text == "call key" else {"name": bad[text[5:]][0]})
        return await context.call(giving, name=text)

    async with Apex(agents=[calling], tools=[giving]) as apex:
        for name, (_, told) in bad.items():
            error = await refused(RunError, "tool_failed", apex.ask(name))
            assert told in str(error), error
            error = await refused(RunError, "agent_failed", apex.ask(f"call {name}"))
            assert told in str(error), error
        await refused(RunError, "bad_arguments", apex.ask("none"))
        with pytest.raises(ValueError, match="surrogate"):
            await apex.ask("\ud800")
        for strange in (None, 7, b"x", float("nan")):
            with pytest.raises((TypeError, ValueError)):
                await apex.ask(strange)  # pyright: ignore[reportArgumentType]
        await refused(RequestError, "bad_request", apex.user("x" * 10_000))
        await refused(RequestError, "not_found", apex.state("no id"))
        await refused(RequestError, "bad_request", apex.usage(by="weekday"))  # pyright: ignore[reportArgumentType]
        assert await apex.usage(by="step") == []


@case
async def closed(folder: Path) -> None:
    apex = Apex(agents=[hello_agent], tools=[shout])
    await refused(UnavailableError, "draining", apex.ask("hello"))
    async with apex:
        assert "open" in repr(apex)
    assert "closed" in repr(apex)
    await apex.close()
    await refused(UnavailableError, "draining", apex.ask("hello"))
    async with apex:
        assert (await apex.ask("again")).text == "again!"
