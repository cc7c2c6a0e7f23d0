"""What is around an Apex: sockets, servers, and what else can be the host's."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import websockets

from cases import case, hello_agent, refused, shout
from netra_apex import (
    Apex,
    ApexError,
    ConfigurationError,
    Context,
    DefectError,
    Login,
    LoginRequest,
    Note,
    RequestError,
    StorageError,
    ToolContext,
    UnavailableError,
    tool,
)


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


async def let_in(request: LoginRequest) -> str | Login | None:
    if request.bearer == "failing":
        raise OSError("the directory is away")
    users: dict[str, Any] = {"good": Login("ada", expires_in=60), "other": "bob", "strange": 7}
    return users.get(request.bearer or "")


def fetch(url: str, token: str | None = None, data: bytes | None = None, method: str | None = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if data:
        headers["content-type"] = "application/json"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=20) as answer:
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
        for token in ("strange", "failing"):
            status, told = await asyncio.to_thread(fetch, f"{server.url}/threads", token)
            assert (status, told["code"]) == (503, "unavailable")
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

    async def away(key: str) -> str | None:
        await asyncio.sleep(0)
        raise OSError("the vault is away")

    for faulty in (broken, away):
        error = await refused(ConfigurationError, "config_invalid", Apex(config, secret=faulty).open())
        assert "the vault is away" in str(error) and "never-shown" not in str(error)

    async def strange(key: str) -> Any:
        return 7

    error = await refused(ConfigurationError, "config_invalid", Apex(config, secret=strange).open())
    assert "something else than text" in str(error)

    async def slow(key: str) -> str | None:
        await asyncio.sleep(0.001)
        return vault(key)

    asked.clear()
    async with Apex(config, secret=slow):
        assert "models.openai.api_key" in asked


@case
async def alerts(folder: Path) -> None:
    async def failing() -> str:
        raise ApexError("internal", "a defect")

    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def page(said: dict[str, Any]) -> None:
        await told.put(said)
        raise OSError("the pager is away")

    def page_here(said: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(told.put_nowait, said)
        raise OSError("the pager is away")

    for pager in (page, page_here):
        async with Apex(agents=[failing], on_alert=pager) as apex:
            await refused(DefectError, "internal", apex.ask("go"))
            alert = (await asyncio.wait_for(told.get(), 10))["alert"]
            assert (alert["kind"], alert["number"]) == ("internal", 1)
            await refused(DefectError, "internal", apex.ask("go"))


class Notes:
    """Notes where a host keeps them, by methods of both kinds."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Any] = {}

    async def keep(self, user: str, note: Note) -> None:
        if note.name == "fail":
            raise OSError("the disk is full")
        self.kept[user, note.name] = note

    def notes(self, user: str) -> list[Note]:
        return [note for (whose, _), note in reversed(self.kept.items()) if whose == user]

    async def forget(self, user: str, name: str) -> bool:
        return self.kept.pop((user, name), None) is not None

    def forget_all(self, user: str) -> int:
        mine = [key for key in self.kept if key[0] == user]
        return len([self.kept.pop(key) for key in mine])


@case
async def memory(folder: Path) -> None:
    @tool(effect="idempotent")
    async def notes(do: str, name: str, context: ToolContext) -> str:
        await (context.remember(name, "Graz") if do == "keep" else context.forget(name))
        return " ".join(note.name for note in await context.recall())

    async def asking(text: str, context: Context) -> str:
        do, name = text.split(" ", 1)
        return await context.call(notes, do=do, name=name)

    store = Notes()
    async with Apex(agents=[asking], tools=[notes], memory=store, authenticate=let_in) as apex:

        async def said(text: str, user: str = "ada") -> str:
            return (await apex.ask(text, user=user)).text

        assert (await said("keep b"), await said("keep a"), await said("keep c", "bob")) == ("b", "a b", "c")
        ada = await apex.user("ada")
        note = store.kept[ada.id, "a"]
        assert (note.text, note.at.tzinfo is not None, note.run is not None) == ("Graz", True, True)
        assert len(store.kept) == 3
        await refused(RequestError, "bad_request", said("keep Wrongly named"))
        await refused(StorageError, "storage_failed", said("keep fail"))
        assert await said("forget b") == "a"
        await refused(RequestError, "not_found", said("forget b"))
        async with await apex.serve("127.0.0.1:0") as server:
            status, listed = await asyncio.to_thread(fetch, f"{server.url}/memory", "good")
            assert (status, [one["name"] for one in listed["items"]]) == (200, ["a"])
            status, _ = await asyncio.to_thread(fetch, f"{server.url}/memory", "good", method="DELETE")
            assert (status, len(store.kept)) == (204, 1)
        store.kept[ada.id, "a"] = "no note"
        await refused(StorageError, "storage_failed", said("keep b"))


@case
async def health(folder: Path) -> None:
    async with Apex() as apex:
        told = await apex.health()
        assert told["status"] == "pass"
        assert told["draining"] is False
