"""The ways in: what each carries, and which of them these credentials can go."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from netra_apex.client._closing import Way
from netra_apex.exceptions import ApexError

Fetching = Callable[[bool], Awaitable[str]]
"""Fetches a credential. Told `True`, one that lasts: the connection's own runs out, and the login is to be renewed."""

PROTOCOL = "apex.v1"
LARGEST = 1024 * 1024
"""A frame of the server's, in bytes: a `reset` with its snapshot is the largest."""
ANSWER = 30.0


class Place:
    """Where a service is: its HTTP address and that of its WebSocket."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        secure = {"http": False, "ws": False, "https": True, "wss": True}.get(parts.scheme)
        if secure is None or not parts.netloc:
            raise ApexError("bad_request", f"{url!r} is no address of a service: http(s)://host[:port][/prefix]")
        rest = f"://{parts.netloc}{parts.path.rstrip('/')}"
        self.http = f"http{'s' if secure else ''}{rest}"
        self.ws = f"ws{'s' if secure else ''}{rest}/ws"


class Credentials:
    """How this client proves who it is."""

    def __init__(self, place: Place, ticket: Fetching | None, token: Fetching | str | None) -> None:
        if ticket is None and token is None:
            raise ApexError("bad_request", "connect() needs `ticket` or `token`")
        self._place = place
        self._ticket = ticket
        self._token = token

    def ways(self) -> Sequence[Way]:
        """The ways that they can go, in their order."""
        with_ticket: list[Way] = ["subprotocol", "query", "hello"]
        return with_ticket if self._ticket else ["header", *with_ticket]

    async def fresh(self, way: Way, *, lasting: bool = False) -> dict[str, str]:
        """A credential for one attempt on that way."""
        if self._ticket and way != "header":
            return {"ticket": await self._ticket(lasting)}
        token = await self._token(lasting) if callable(self._token) else self._token
        if not token:
            raise ApexError("bad_request", f"the way {way!r} needs a token")
        if way == "query":
            return {"ticket": await asyncio.to_thread(self._buy, token)}
        return {"token": token}

    def _buy(self, token: str) -> str:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._place.http}/auth/ticket", b"{}", headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=ANSWER) as answer:
                return json.load(answer)["ticket"]
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None


def _refusal(error: urllib.error.HTTPError) -> ApexError:
    report: dict[str, Any] = {"message": f"no ticket: status {error.code}", "retryable": error.code >= 500}
    with suppress(ValueError, TypeError):  # where something on the way answered
        report |= json.load(error)
    return ApexError.of(report)


async def open_socket(
    place: Place, way: Way, credential: dict[str, str], proxy: str | None, close_within: float
) -> ClientConnection:
    """Opens a socket by a way."""
    url = place.ws
    headers: dict[str, str] = {}
    protocols: list[str] = []
    if way == "header":
        headers["Authorization"] = f"Bearer {credential['token']}"
        protocols = [PROTOCOL]
    elif way == "subprotocol":
        kind, value = next(iter(credential.items()))
        protocols = [PROTOCOL, f"apex.{'ticket' if kind == 'ticket' else 'bearer'}.{value}"]
    elif way == "query":
        url += f"?ticket={credential['ticket']}"
    return await connect(
        url,
        additional_headers=headers,
        subprotocols=[Subprotocol(protocol) for protocol in protocols] or None,
        compression=None,
        ping_interval=None,  # the protocol has pings of its own
        open_timeout=None,
        close_timeout=close_within,
        max_size=LARGEST,
        proxy=proxy,
    )
