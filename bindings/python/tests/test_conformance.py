"""What every client has to do, by the list that all languages share, against the real host behind a relay."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest
from host import Host, Login

from netra_apex.client import ApexError, Client, Cursor, Envelope, Fetching, Reset, State, Stream, Way, connect

CASES: list[dict[str, str]] = json.loads((Path(__file__).resolve().parents[2] / "cases.json").read_text())
QUESTION = "What do we spend?"
USERS = itertools.count(1)
T = TypeVar("T")

Case = Callable[["Bench"], Awaitable[None]]
cases: dict[str, Case] = {}


def case(function: Case) -> Case:
    cases[function.__name__] = function
    return function


class Bench:
    """A host with nothing wrong yet, and a user of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.login = Login(host.url, f"python user {next(USERS)}")
        self.states: list[str] = []
        """Those that the clients came to."""

    async def file(self) -> str:
        """A file over which a run takes a while."""
        return (await self.host.tell("file", token=self.login.token, rows=40_000))["file"]

    def client(
        self,
        *,
        ticket: Fetching | None = None,
        token: Fetching | str | None = None,
        ways: list[Way] | None = None,
        buffer: int = 256,
    ) -> Client:
        return connect(
            self.host.url,
            ticket=ticket if ticket or token else self.login.ticket,
            token=token,
            ways=ways,
            buffer=buffer,
            on_state=self._note,
            jitter=lambda: 0.02,  # pauses of a few milliseconds: how long they are is tested elsewhere
        )

    def _note(self, state: State) -> None:
        self.states.append(state.name)

    async def back(self, times: int) -> None:
        """Until the client has come back so many times."""
        while self.states.count("open") <= times:
            await asyncio.sleep(0.005)


async def read(stream: Stream[T]) -> list[T | Reset]:
    return [entry async for entry in stream]


def assert_whole(events: list[Envelope | Reset], end: str = "run_completed") -> None:
    """All of a run: its critical events are 1, 2, 3 and so on, and one terminal event is the last."""
    critical = [event for event in events if not isinstance(event, Reset) and event.get("seq")]
    assert [event.get("seq") for event in critical] == list(range(1, len(critical) + 1))
    assert critical[-1]["type"] == end
    assert sum(event["type"] in ("run_completed", "run_failed", "run_cancelled") for event in critical) == 1


async def refused(code: str, asked: Awaitable[object]) -> ApexError:
    with pytest.raises(ApexError) as caught:
        await asked
    assert caught.value.code == code
    return caught.value


@case
async def golden_path(bench: Bench) -> None:
    async with bench.client() as client:
        answer = client.ask(QUESTION)
        events = await read(answer)
        assert_whole(events)
        last = events[-1]
        assert not isinstance(last, Reset)
        assert last["type"] == "run_completed"
        assert last["data"]["result"]["text"]
        accepted = await answer.accepted()
        following = client.ask("And by user?", thread=accepted.thread)
        assert_whole(await read(following))
        assert (await following.accepted()).thread == accepted.thread
        assert_whole(await read(client.follow(accepted.run)))


@case
async def cancel(bench: Bench) -> None:
    async with bench.client() as client:
        answer = client.ask(QUESTION, attachments=[await bench.file()])
        await client.cancel((await answer.accepted()).run)
        assert_whole(await read(answer), "run_cancelled")


@case
async def cut(bench: Bench) -> None:
    await bench.host.rule("server", frame="event", seq=4, act="cut")
    async with bench.client() as client:
        assert_whole(await read(client.ask(QUESTION)))
    assert bench.states == ["connecting", "open", "waiting", "connecting", "open", "closed"]
    assert [said["after"] for said in await bench.host.said("subscribe")] == [3]


@case
async def lost_answer(bench: Bench) -> None:
    await bench.host.rule("server", frame="accepted", act="cut")
    async with bench.client() as client:
        assert_whole(await read(client.ask(QUESTION)))
    first, second = await bench.host.said("message")
    assert first["request_id"] == second["request_id"]
    assert len((await bench.login.ask("GET", "/threads"))["items"]) == 1


@case
async def gap(bench: Bench) -> None:
    await bench.host.rule("server", frame="event", seq=3, act="drop")
    async with bench.client() as client:
        assert_whole(await read(client.ask(QUESTION)))
    assert [said["after"] for said in await bench.host.said("subscribe")] == [2]


@case
async def duplicate(bench: Bench) -> None:
    await bench.host.rule("server", frame="event", act="double", times=1_000)
    async with bench.client() as client:
        assert_whole(await read(client.ask(QUESTION)))
    assert await bench.host.said("subscribe") == []


@case
async def other_epoch(bench: Bench) -> None:
    await bench.host.rule("server", frame="event", seq=3, act="merge", fields={"epoch": str(uuid4())})
    async with bench.client() as client:
        assert_whole(await read(client.ask(QUESTION)))
    assert len(await bench.host.said("subscribe")) == 1


@case
async def reset(bench: Bench) -> None:
    async with bench.client() as client:
        answer = client.ask(QUESTION)
        events = await read(answer)
        run = (await answer.accepted()).run
        (only,) = await read(client.follow(run, Cursor(str(uuid4()), 3)))
        assert isinstance(only, Reset)
        last = events[-1]
        assert not isinstance(last, Reset)
        assert (only.reason, only.head) == ("epoch", last.get("seq"))
        assert only.snapshot
        assert only.snapshot["state"] == "completed"


@case
async def inbox(bench: Bench) -> None:
    async with bench.client() as client, client.inbox() as entries:
        run = (await client.ask(QUESTION).accepted()).run
        states: list[str] = []
        async for entry in entries:
            assert not isinstance(entry, Reset)
            if entry["run"] == run:
                states.append(entry["state"])
                if entry["state"] == "completed":
                    break
        assert len(states) >= 2


@case
async def codes_that_stop(bench: Bench) -> None:
    codes = {1000: "cancelled", 1009: "too_large", 4400: "bad_frame", 4403: "forbidden", 4409: "conflict"}
    codes |= {code: "unavailable" for code in (1002, 1003, 1007, 1008)}
    codes[4429] = "too_many_connections"
    for code, name in codes.items():
        async with bench.client() as client:
            following = asyncio.create_task(read(client.inbox()))
            await bench.host.tell("close", code=code)
            await refused(name, following)
            assert (client.state.name, client.state.code) == ("closed", code)
    assert len((await bench.host.tell("seen"))["upgrades"]) == len(codes), "none came back"


@case
async def codes_that_resume(bench: Bench) -> None:
    async with bench.client() as client:
        run = (await client.ask(QUESTION).accepted()).run
        for times, code in enumerate((1001, 1005, 1006, 1011, 1012, 1013, 4401, 4501, 4508, 4510), 1):
            await bench.host.tell("close", code=code)
            await bench.back(times)
            assert_whole(await read(client.follow(run)))


@case
async def ways(bench: Bench) -> None:
    await bench.host.tell("strip", what=["authorization", "subprotocol"])
    async with bench.client() as client:
        assert client.state.way == "query"
        await bench.host.tell("strip", what=["authorization", "subprotocol", "query"])
        # A server that sees no credential waits for the hello: the relay cuts that wait short.
        await bench.host.rule("upgrade", way="query", close=4504)
        await bench.host.tell("close", code=1006)
        await bench.back(1)
        assert client.state.way == "hello"
        upgrades = (await bench.host.tell("seen"))["upgrades"]
        assert upgrades == ["subprotocol", "query", "query", "hello"]
        assert len(bench.login.wishes) == len(upgrades), "each with a ticket of its own"
        assert_whole(await read(client.ask(QUESTION)))


@case
async def token(bench: Bench) -> None:
    async def fetch(lasting: bool) -> str:
        return bench.login.token

    async with bench.client(token=bench.login.token) as client:
        assert client.state.way == "header"
    await bench.host.rule("upgrade", way="header", close=4504)
    async with bench.client(token=fetch) as client:
        assert client.state.way == "subprotocol"
        assert_whole(await read(client.ask(QUESTION)))
    async with bench.client(token=fetch, ways=["query"]) as client:
        assert client.state.way == "query"


@case
async def bad_ticket(bench: Bench) -> None:
    async def ticket(lasting: bool) -> str:
        return "x" * 43

    await refused("unauthenticated", bench.client(ticket=ticket).__aenter__())
    expected = ["subprotocol", "subprotocol", "query", "query", "hello", "hello"]
    assert (await bench.host.tell("seen"))["upgrades"] == expected


@case
async def no_login(bench: Bench) -> None:
    failures = [OSError("not now"), ApexError("unavailable", "nor now", retryable=True)]

    async def ticket(lasting: bool) -> str:
        if failures:
            raise failures.pop()
        return await bench.login.ticket(lasting)

    async with bench.client(ticket=ticket):
        assert failures == []
    await refused("unauthenticated", bench.client(token="nobody", ways=["query"]).__aenter__())


@case
async def limits(bench: Bench) -> None:
    async with bench.client(), bench.client(), bench.client():
        client = bench.client()
        await refused("too_many_connections", client.__aenter__())
        assert client.state.code == 4429


@case
async def busy(bench: Bench) -> None:
    await bench.host.rule("upgrade", status=503)
    await bench.host.rule("upgrade", close=1013)
    async with bench.client():
        assert (await bench.host.tell("seen"))["upgrades"] == ["subprotocol"] * 3


@case
async def bad_input(bench: Bench) -> None:
    nothing = str(uuid4())
    async with bench.client() as client:
        assert not (await refused("bad_request", read(client.ask("")))).retryable
        await refused("not_found", client.ask("hi", thread=nothing).accepted())
        await refused("not_found", read(client.follow(nothing)))
        with pytest.raises(ApexError, match=r".+"):
            await client.cancel("no run")
        await refused("not_found", client.stop(nothing, "s1"))
        await refused("not_found", client.decide(nothing, nothing, "d", "approve"))
        await bench.host.tell("say", text='{"frame":"from another time"}')
        assert_whole(await read(client.ask(QUESTION)))
        await bench.host.tell("say", text="no frame")
        await bench.back(1)
        assert_whole(await read(client.ask(QUESTION)))


@case
async def draining(bench: Bench) -> None:
    async with bench.client() as client:
        answer = client.ask(QUESTION, attachments=[await bench.file()])
        await answer.accepted()
        reading = asyncio.create_task(read(answer))
        await bench.host.tell("restart")
        assert_whole(await reading)
    assert len((await bench.host.tell("seen"))["upgrades"]) >= 2


@case
async def expiring(bench: Bench) -> None:
    async with bench.client() as client:
        await bench.host.tell("say", text='{"frame":"expiring","at":"2026-11-22T10:00:00Z"}')
        while not await bench.host.said("hello"):
            await asyncio.sleep(0.01)
        assert bench.login.wishes == [False, True]
        assert_whole(await read(client.ask(QUESTION)))
    assert len((await bench.host.tell("seen"))["upgrades"]) == 1, "it was one connection"


@case
async def slow_reader(bench: Bench) -> None:
    async with bench.client(buffer=4) as client:
        answer = client.ask(QUESTION)
        await answer.accepted()
        while not await bench.host.said("unsubscribe"):
            await asyncio.sleep(0.01)
        events = await read(answer)
        assert_whole(events)
        assert len(events) > 4
    assert (await bench.host.said("subscribe"))[0]["after"] == 4


@case
async def leaving(bench: Bench) -> None:
    async with bench.client() as client:
        async with client.ask(QUESTION, attachments=[await bench.file()]) as answer:
            async for event in answer:
                assert not isinstance(event, Reset)
                if event.get("seq") == 2:
                    run = event["run"]
                    break
            else:
                raise AssertionError("the run ended before it was left")
        await client.cancel(run)
        assert len(await bench.host.said("unsubscribe")) == 1
        following = asyncio.create_task(read(client.inbox()))
        await asyncio.sleep(0)
    await refused("cancelled", following)
    while (await bench.host.tell("seen"))["live"]:
        await asyncio.sleep(0.01)


def test_all_cases_are_here() -> None:
    assert sorted(cases) == sorted(case["name"] for case in CASES)


@pytest.mark.parametrize("name", [case["name"] for case in CASES])
def test_case(name: str, host: Host) -> None:
    async def run() -> None:
        await host.tell("reset")
        await asyncio.wait_for(cases[name](Bench(host)), 120)
        others = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert others == [], "nothing is left behind"

    asyncio.run(run())
