"""The routes of Apex as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from netra_apex import _native

if TYPE_CHECKING:
    from netra_apex._apex import Apex

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Asgi:
    """An ASGI 3 application: HTTP, WebSockets, and a lifespan that opens and closes Apex where it is served alone."""

    def __init__(self, apex: Apex) -> None:
        self._apex = apex

    def __repr__(self) -> str:
        return f"<Asgi of {self._apex!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._apex.open()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._apex.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        native = self._apex._open  # pyright: ignore[reportPrivateUsage]
        body, answering = native.respond(scope["method"], _target(scope), _headers(scope), _peer(scope))
        gone = asyncio.Event()
        feeding = asyncio.ensure_future(_feed(receive, body, gone))
        try:
            answer = await answering
            await _answer(answer, send, gone)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        native = self._apex._open  # pyright: ignore[reportPrivateUsage]
        knocked = await native.knock(_target(scope), _headers(scope), _peer(scope))
        await receive()
        if isinstance(knocked, _native.Answer):
            await _refuse(scope, knocked, send)
            return
        subprotocol, pipe = knocked
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        reading = asyncio.ensure_future(_read(receive, pipe))
        try:
            while (said := await pipe.next()) is not None:
                kind, what = said
                if kind == "text":
                    await send({"type": "websocket.send", "text": what})
                elif kind == "close" and isinstance(what, tuple):
                    await send({"type": "websocket.close", "code": what[0], "reason": what[1]})
                    break
        except (OSError, RuntimeError):
            # The client went while something was on its way to it.
            pass
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await pipe.close()


async def _feed(receive: Receive, body: _native.Body, gone: asyncio.Event) -> None:
    """Hands the request's body over, and then looks for the client to go."""
    more = True
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            gone.set()
            if more:
                await body.break_off()
            return
        if more:
            piece = message.get("body", b"")
            if piece and not await body.send(piece):
                more = False
            if not message.get("more_body", False):
                more = False
                body.end()


async def _answer(answer: _native.Answer, send: Send, gone: asyncio.Event) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    left = asyncio.ensure_future(gone.wait())
    try:
        while True:
            next_piece = asyncio.ensure_future(answer.next())
            await asyncio.wait((next_piece, left), return_when=asyncio.FIRST_COMPLETED)
            if not next_piece.done():
                next_piece.cancel()
                return
            piece = next_piece.result()
            if piece is None:
                break
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        left.cancel()


async def _refuse(scope: Scope, answer: _native.Answer, send: Send) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": answer.headers})
    while (piece := await answer.next()) is not None:
        await send({"type": "websocket.http.response.body", "body": piece, "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"", "more_body": False})


async def _read(receive: Receive, pipe: _native.Pipe) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            await pipe.close()
            return
        text = message.get("text")
        if not await (pipe.binary() if text is None else pipe.text(text)):
            return


def _target(scope: Scope) -> str:
    """The path below where the application is mounted, with the query."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root):
        path = path[len(root) :]
    query = scope.get("query_string", b"").decode("latin-1")
    return (quote(path, safe="/:@!$&'()*+,;=-._~") or "/") + (f"?{query}" if query else "")


def _headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    headers = list(scope["headers"])
    # Some servers take it out of the headers.
    offered = scope.get("subprotocols", ())
    if offered and not any(name == b"sec-websocket-protocol" for name, _ in headers):
        headers.append((b"sec-websocket-protocol", ", ".join(offered).encode()))
    return headers


def _peer(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None
