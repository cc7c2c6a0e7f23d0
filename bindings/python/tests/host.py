"""The chat host behind the relay, as a test of the client uses it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import Any

RELAY = Path(__file__).resolve().parents[2] / "node" / "test" / "relay.js"


class Host:
    """The relay with its host; `tell` gives its answer to a command."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(["node", str(RELAY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._turn = threading.Lock()
        self.url: str = self._next()["url"]

    def _next(self) -> dict[str, Any]:
        assert self._child.stdout
        line = self._child.stdout.readline()
        assert line, "the relay has ended"
        return json.loads(line)

    def _tell(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._child.stdin
        with self._turn:
            self._child.stdin.write(json.dumps(command) + "\n")
            self._child.stdin.flush()
            return self._next()

    async def tell(self, command: str, **fields: object) -> dict[str, Any]:
        return await asyncio.to_thread(self._tell, {"do": command, **fields})

    async def rule(self, on: str, **fields: object) -> None:
        await self.tell("rule", on=on, **fields)

    async def said(self, frame: str) -> list[dict[str, Any]]:
        """What clients said, of one name."""
        return [said for said in (await self.tell("seen"))["frames"] if said["frame"] == frame]

    def stop(self) -> None:
        assert self._child.stdin
        self._child.stdin.close()
        self._child.wait(30)


class Login:
    """A login at the host."""

    def __init__(self, url: str, user: str) -> None:
        self._url = url
        self.token: str = self._ask("POST", "/auth/dev", {"user": user}, {})["token"]
        self.wishes: list[bool] = []
        """Whether each ticket was to be a lasting one."""

    def _ask(self, method: str, path: str, body: object, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        return await asyncio.to_thread(self._ask, method, path, body, {"authorization": f"Bearer {self.token}"})

    async def ticket(self, lasting: bool) -> str:
        self.wishes.append(lasting)
        return (await self.ask("POST", "/auth/ticket", {}))["ticket"]
