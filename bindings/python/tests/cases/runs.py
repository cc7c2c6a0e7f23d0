"""Runs, their events and what they leave."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import json
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import netra_apex
from cases import USAGE, answer_of, assert_whole, case, hello_agent, kinds, read, refused, shout
from netra_apex import (
    Answer,
    Apex,
    ApexError,
    Context,
    DataError,
    LimitError,
    Plan,
    Request,
    RequestError,
    Reset,
    Step,
    agent,
    analyse,
)


@case
async def golden_path(folder: Path) -> None:
    (folder / "usage.csv").write_text(USAGE)
    config = {"environment": "development", "database": {"url": f"sqlite:{folder / 'apex.db'}"}}
    async with Apex(config) as apex:
        ada = await apex.user("ada")
        file = await apex.upload(folder / "usage.csv", user=ada)
        assert (file.name, file.bytes) == ("usage.csv", len(USAGE))
        run = await apex.start("Where does our money go?", user=ada, files=[file.file])
        events = await read(run)
        assert_whole(events)
        assert {"agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"} <= {
            *kinds(events)
        }
        answer = await run.answer()
        assert answer.status == "answered"
        assert answer.text == answer_of(events[-1])
        made = {one.name: one for one in await apex.artifacts(run.id, user=ada)}
        report = json.loads(await apex.artifact(made["report.json"], user=ada))
        assert report["totals"]["requests"] == 7
        next_run = await apex.start("And by model?", user=ada, thread=run.thread)
        assert next_run.thread == run.thread
        assert_whole(await read(next_run))


@case
async def hello(folder: Path) -> None:
    async with Apex(agents=[hello_agent], tools=[shout]) as apex:
        run = await apex.start("hello", user="ada")
        events = await read(run)
        assert kinds(events) == [
            "run_started",
            "agent_started",
            "agent_thinking",
            "tool_executing",
            "tool_completed",
            "agent_completed",
            "run_completed",
        ]
        assert answer_of(events[-1]) == "hello!"
        assert await apex.ask("again", user="ada") == Answer("again!")
        with pytest.raises(TypeError, match="User"):
            await apex.ask("x", user=7)  # pyright: ignore[reportArgumentType]


@case
async def mixed(folder: Path) -> None:
    async def front(text: str, files: list[str], context: Context) -> Plan | str:
        """Looks at the files by Apex's own tools, and lets Apex's own agent go on."""
        assert await context.call(shout, word="ours") == "ours!"
        inspected = await context.call("inspect_usage", file=files[0])
        await context.think(f"format {inspected['format']}")
        theirs = context.plan("data_helper")
        assert theirs is not None
        return Plan([*theirs.steps, Step("ending", needs=["data_helper"])])

    def ending(data_helper: Any) -> str:
        return json.dumps(data_helper)

    async with Apex(agents=[front, ending], tools=[shout], entry="front", team=True) as apex:
        file = await apex.upload(USAGE.encode(), name="usage.csv", user="ada")
        run = await apex.start("look", user="ada", files=[file.file])
        events = await read(run)
        agents = [event["data"]["agent"] for event in events if event["type"] == "agent_started"]
        assert agents == ["front", "triage", "data_helper", "ending"], events[-1]
        thoughts = [event["data"]["note"] for event in events if event["type"] == "agent_thinking"]
        assert "format csv" in thoughts
        assert_whole(events)


@case
async def triggers(folder: Path) -> None:
    @agent(purpose="Opens.", triggers=["open a ticket"])
    def desk() -> Plan:
        return Plan(["clerk"], question="a ticket about otters")

    def clerk(text: str) -> str:
        return f"opened: {text}"

    async with Apex(agents=[desk, clerk], team=True) as apex:
        assert (await apex.ask("Please OPEN a ticket: otters!", user="ada")).text == "opened: a ticket about otters"
        assert "No usage data" in (await apex.ask("What do we spend?", user="ada")).text


@dataclass
class Words:
    count: int
    longest: str | None = None


@case
async def plan(folder: Path) -> None:
    @agent(purpose="Says who works.")
    def boss(ask: Request) -> Plan:
        assert ask.text == "one three"
        return Plan(["counting", Step("telling", needs=["counting"])])

    async def counting(text: str) -> Words:
        words = text.split()
        return Words(len(words), max(words, key=len))

    def telling(counting: Words) -> str:
        return f"{counting.count} words, the longest {counting.longest}"

    async with Apex(agents=[boss, counting, telling]) as apex:
        assert (await apex.ask("one three")).text == "2 words, the longest three"


@case
async def batches(folder: Path) -> None:
    async def busy(context: Context) -> str:
        for n in range(200):
            await context.think(str(n))
        return "done"

    async with Apex(agents=[busy]) as apex:
        run = await apex.start("go")
        await run.answer()
        native = await apex._open.follow(run.user, run.id)  # pyright: ignore[reportPrivateUsage]
        sizes: list[int] = []
        while (batch := await native.next_many()) is not None:
            sizes.append(len(json.loads(batch)))
        assert sum(sizes) == 204 and len(sizes) <= 3
        assert await native.next_many() is None
        events = await read(run)
        assert_whole(events)
        notes = [event["data"]["note"] for event in events if event["type"] == "agent_thinking"]
        assert notes == [str(n) for n in range(200)]


@case
async def resume(folder: Path) -> None:
    async with Apex(agents=[hello_agent], tools=[shout]) as apex:
        run = await apex.start("hello")
        events = await read(run)
        epoch = events[0]["epoch"]
        rest = [event async for event in apex.follow(run.id, after=4, epoch=epoch)]
        assert rest == events[4:]
        lost = [event async for event in apex.follow(run.id, after=2, epoch=str(uuid4()))]
        assert isinstance(lost[0], Reset) and len(lost) == 1
        assert (lost[0].reason, lost[0].head) == ("epoch", 7)
        await refused(RequestError, "bad_request", anext(apex.follow(run.id, after=2)))


@case
async def threads(folder: Path) -> None:
    async with Apex(agents=[hello_agent], tools=[shout]) as apex:
        for word in ("one", "two", "three"):
            await apex.ask(word, user="ada")
            await asyncio.sleep(0.002)  # those of one millisecond have no order
        first = await apex.threads(user="ada", most=2)
        assert [thread.title for thread in first.items] == ["three", "two"]
        assert first.items[0].created_at.tzinfo is not None
        second = await apex.threads(user="ada", most=2, cursor=first.next)
        assert ([thread.title for thread in second.items], second.next) == (["one"], None)
        said = await apex.messages(second.items[0].thread, user="ada")
        assert [(message.role, message.text) for message in said.items] == [("user", "one"), ("assistant", "one!")]
        thread = second.items[0].thread
        await refused(RequestError, "not_found", apex.messages(thread, user="bob"))
        await refused(RequestError, "not_found", apex.forget(thread, user="bob"))
        assert not (await apex.threads(user="bob")).items
        await apex.forget(thread, user="ada")
        await refused(RequestError, "not_found", apex.messages(thread, user="ada"))
        await refused(RequestError, "not_found", apex.state(said.items[0].run, user="ada"))
        file = await apex.upload(b"abc", name="a.txt", user="ada")
        assert await apex.read_file(file.file, user="ada") == b"abc"
        await refused(RequestError, "not_found", apex.read_file(file.file, user="bob"))
        await refused(LimitError, "too_large", apex.read_file(file.file, user="ada", most=2))
        await apex.delete_file(file.file, user="ada")
        assert await apex.files(user="ada") == []


WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


@case
async def context(folder: Path) -> None:
    def inner() -> str:
        return WHO.get()

    async def outer(context: Context) -> str:
        seen = [WHO.get(), await context.call(inner)]
        WHO.set("the agent")
        await context.think("still the same")
        return " ".join([*seen, WHO.get()])

    async with Apex(agents=[outer], tools=[inner]) as apex:

        async def one(name: str) -> str:
            WHO.set(name)
            return (await apex.ask("who?")).text

        answers = await asyncio.gather(*(one(f"n{n}") for n in range(5)))
        assert answers == [f"n{n} n{n} the agent" for n in range(5)]
        assert WHO.get() == "nobody"


@case
async def context_ends(folder: Path) -> None:
    class Thing:
        """What would be missed if it were kept."""

    kept: contextvars.ContextVar[Thing] = contextvars.ContextVar("kept")
    waits = asyncio.Event()

    def at_once(text: str) -> str:
        kept.get()
        if text == "fail":
            raise ApexError("agent_failed", "no")
        return "done"

    async def waiting() -> str:
        waits.set()
        await asyncio.Event().wait()
        return "never"

    async def one(apex: Apex, text: str) -> weakref.ref[Thing]:
        kept.set(thing := Thing())
        run = await apex.start(text)
        if apex is slow:
            await waits.wait()
            await run.cancel()
        with contextlib.suppress(ApexError):
            await run.answer()
        return weakref.ref(thing)

    async def nowhere(apex: Apex) -> weakref.ref[Thing]:
        kept.set(thing := Thing())
        await refused(RequestError, "not_found", apex.start("go", thread=str(uuid4())))
        return weakref.ref(thing)

    async def gone(apex: Apex, asked: Coroutine[Any, Any, weakref.ref[Thing]]) -> None:
        thing = await asyncio.create_task(asked)
        for _ in range(500):
            gc.collect()
            if thing() is None:
                return
            await asyncio.sleep(0.01)
            await apex.user("ada")
        raise AssertionError("it is still kept")

    async with Apex(agents=[at_once]) as quick, Apex(agents=[waiting]) as slow:
        for asked in (one(quick, "go"), one(quick, "fail"), nowhere(quick)):
            await gone(quick, asked)
        await gone(slow, one(slow, "go"))


@case
async def analysis(folder: Path) -> None:
    (folder / "usage.csv").write_text(USAGE)
    report = analyse(folder / "usage.csv", ("more.csv", USAGE.encode()))
    assert report.totals["requests"] == 14
    assert [source["file"] for source in report.data["sources"]] == ["usage.csv", "more.csv"]
    assert report.markdown().startswith("# ") and report.html().startswith("<!doctype html>")
    assert "14" in str(report)
    assert {path.name for path in report.save(folder / "out").iterdir()} == {"report.json", "report.md", "report.html"}
    assert netra_apex.inspect(folder / "usage.csv")["format"] == "csv"
    with pytest.raises(DataError) as caught:
        analyse(folder / "nowhere.csv")
    assert caught.value.code == "bad_data" and "nowhere.csv" in str(caught.value)
    with pytest.raises(TypeError):
        analyse(7)  # pyright: ignore[reportArgumentType]
