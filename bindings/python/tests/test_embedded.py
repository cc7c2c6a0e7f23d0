"""What every language that embeds Apex has to do, by the list that they share, against the installed package."""

from __future__ import annotations

import asyncio
import contextvars
import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import websockets

import netra_apex
from netra_apex import (
    Answer,
    Apex,
    ApexError,
    ConfigurationError,
    Context,
    DataError,
    Envelope,
    LimitError,
    LoginRequest,
    Plan,
    Request,
    RequestError,
    Reset,
    Run,
    RunError,
    Step,
    ToolContext,
    UnavailableError,
    agent,
    analyse,
    tool,
)
from netra_apex.errors import ERRORS

CASES: list[dict[str, str]] = json.loads((Path(__file__).resolve().parents[2] / "embedded.json").read_text())

Case = Callable[[Path], Awaitable[None]]
cases: dict[str, Case] = {}

USAGE = "timestamp,model,input_tokens,output_tokens,cost_usd\n" + "".join(
    f"2026-03-0{day}T10:00:00Z,gpt-4o,{1000 * day},{100 * day},{0.0035 * day}\n" for day in range(1, 8)
)


def case(function: Case) -> Case:
    cases[function.__name__] = function
    return function


def shout(word: str) -> str:
    """Louder."""
    return word + "!"


async def hello_agent(text: str, context: Context) -> str:
    """Greets."""
    return await context.call(shout, word=text)


async def read(run: Run) -> list[Envelope]:
    return [event async for event in run if not isinstance(event, Reset)]


def kinds(events: list[Envelope]) -> list[str]:
    return [event["type"] for event in events]


async def refused(kind: type[ApexError], code: str, asked: Awaitable[object]) -> ApexError:
    with pytest.raises(kind) as caught:
        await asked
    assert caught.value.code == code
    return caught.value


def assert_whole(events: list[Envelope], end: str = "run_completed") -> None:
    critical = [event for event in events if event.get("seq")]
    assert [event.get("seq") for event in critical] == list(range(1, len(critical) + 1))
    assert critical[-1]["type"] == end


def answer_of(event: Envelope) -> str:
    assert event["type"] == "run_completed"
    return event["data"]["result"]["text"]


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
async def tickets(folder: Path) -> None:
    async with Apex() as apex, await apex.serve("127.0.0.1:0") as server:
        ticket = await apex.ticket(await apex.user("ada"))
        assert ticket.ticket not in repr(ticket)
        url = f"ws://127.0.0.1:{server.port}/ws?ticket={ticket.ticket}"
        async with websockets.connect(url) as socket:
            assert json.loads(await socket.recv())["frame"]
        with pytest.raises(websockets.InvalidStatus) as caught:
            await websockets.connect(url)
        assert caught.value.response.status_code == 401


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
        assert "ValueError: no such luck (test_embedded.py:" in str(error) and "bad_tool" in str(error)
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


async def let_in(request: LoginRequest) -> str | None:
    return {"good": "ada", "other": "bob"}.get(request.bearer or "")


def fetch(url: str, token: str | None = None, data: bytes | None = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if data:
        headers["content-type"] = "application/json"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


@case
async def authenticate(folder: Path) -> None:
    async with (
        Apex(agents=[hello_agent], tools=[shout], authenticate=let_in) as apex,
        await apex.serve("127.0.0.1:0") as server,
    ):
        message = json.dumps({"request_id": str(uuid4()), "text": "hello"}).encode()
        status, accepted = await asyncio.to_thread(fetch, f"{server.url}/messages", "good", message)
        assert status == 202, accepted
        assert (await apex.state(accepted["run"], user="ada"))["thread"] == accepted["thread"]
        status, _ = await asyncio.to_thread(fetch, f"{server.url}/runs/{accepted['run']}", "other")
        assert status == 404
        status, told = await asyncio.to_thread(fetch, f"{server.url}/runs/{accepted['run']}", "bad")
        assert (status, told["code"]) == (401, "unauthenticated")
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with websockets.connect(url, additional_headers={"authorization": "Bearer good"}) as socket:
            assert json.loads(await socket.recv())["frame"]
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(url, additional_headers={"authorization": "Bearer bad"})


@case
async def socket(folder: Path) -> None:
    async with Apex(agents=[hello_agent], tools=[shout], authenticate=let_in) as apex:
        received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        sent: asyncio.Queue[Any] = asyncio.Queue()
        scope = {
            "type": "websocket",
            "path": "/apex/ws",
            "root_path": "/apex",
            "query_string": b"",
            "headers": [(b"authorization", b"Bearer good")],
            "client": ("127.0.0.1", 5),
        }
        await received.put({"type": "websocket.connect"})
        talking = asyncio.ensure_future(apex.asgi()(scope, received.get, sent.put))
        assert (await asyncio.wait_for(sent.get(), 10))["type"] == "websocket.accept"
        message = {"frame": "message", "id": "1", "request_id": str(uuid4()), "text": "hello"}
        await received.put({"type": "websocket.receive", "text": json.dumps(message)})
        types: list[str] = []
        while "run_completed" not in types:
            said = await asyncio.wait_for(sent.get(), 10)
            types.append(json.loads(said["text"]).get("type", ""))
        await received.put({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(talking, 10)
        refusing = {**scope, "headers": [(b"authorization", b"Bearer bad")]}
        await received.put({"type": "websocket.connect"})
        await asyncio.wait_for(apex.asgi()(refusing, received.get, sent.put), 10)
        while (said := await sent.get())["type"] == "websocket.send":
            pass
        assert (said["type"], said["code"]) == ("websocket.close", 1008)


@case
async def serve(folder: Path) -> None:
    async with Apex() as apex:
        server = await apex.serve("127.0.0.1:0")
        status, _ = await asyncio.to_thread(fetch, f"{server.url}/health/live")
        assert status == 200
        assert str(server.port) in repr(server)
        with pytest.raises(UnavailableError):
            await apex.serve(f"127.0.0.1:{server.port}")
        await refused(RequestError, "bad_request", apex.serve("nowhere"))
        await server.stop()
        await server.stop()
        with pytest.raises(urllib.error.URLError):
            await asyncio.to_thread(fetch, f"{server.url}/health/live")


@case
async def threads(folder: Path) -> None:
    async with Apex(agents=[hello_agent], tools=[shout]) as apex:
        for word in ("one", "two", "three"):
            await apex.ask(word, user="ada")
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


@case
async def secrets(folder: Path) -> None:
    asked: list[str] = []

    def vault(key: str) -> str | None:
        asked.append(key)
        return "sk-never-shown-7f3a91" if key == "models.openai.api_key" else None

    config = {"database": {"url": f"sqlite:{folder / 'a.db'}"}, "models": {"chain": ["openai:gpt-5-mini"]}}
    async with Apex(config, secret=vault):
        pass
    assert "models.openai.api_key" in asked and "runs.running" not in asked

    def broken(key: str) -> str | None:
        raise OSError("the vault is away")

    error = await refused(ConfigurationError, "config_invalid", Apex(config, secret=broken).open())
    assert "the vault is away" in str(error) and "never-shown" not in str(error)


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


@case
async def health(folder: Path) -> None:
    async with Apex() as apex:
        told = await apex.health()
        assert told["status"] == "pass"
        assert told["draining"] is False


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


def test_every_case_is_there() -> None:
    assert [one["name"] for one in CASES] == list(cases)


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
