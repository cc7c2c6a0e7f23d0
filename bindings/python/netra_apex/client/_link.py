"""The connection: made by the first way in that works, kept alive, and made again when it breaks."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Protocol, cast

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from netra_apex.client._closing import Way, backoff, meaning, of_status, on_close
from netra_apex.client._ways import Credentials, Place, open_socket
from netra_apex.exceptions import ApexError
from netra_apex.wire import Limits, ServerFrame, Welcome

_log = logging.getLogger("netra_apex.client")

WELCOME = 10.0
"""From opening the socket to `welcome`, in seconds."""
PONG = 10.0
"""From `ping` to any sign of life."""
STEADY = 10.0
"""A connection that lasted this long forgets earlier failures."""
GOODBYE = 2.0
"""From our close to the server's."""
SHARE = 0.75
"""Of the frames that the server allows, so that a clock's difference does no harm."""


@dataclass(frozen=True)
class State:
    """Where the connection is: on its way in, in, before the next try, or at its end for good."""

    name: Literal["connecting", "open", "waiting", "closed"]
    way: Way | None = None
    """By which way it is open."""
    reason: str = ""
    """Why it waits."""
    retry_in: float = 0.0
    """How long it waits, in seconds."""
    error: ApexError | None = None
    """Why it is closed."""
    code: int | None = None
    """The close code that closed it, if one did."""


class User(Protocol):
    """What uses the connection."""

    def welcomed(self, welcome: Welcome) -> None:
        """Everything has to be asked anew."""

    def take(self, frame: ServerFrame) -> None:
        """A frame, but for those that the connection is kept by."""

    def closed(self, error: ApexError) -> None:
        """For good."""


@dataclass(frozen=True)
class _End:
    """How one connection ended."""

    code: int
    reason: str
    welcomed: bool = False


class _Stop(Exception):
    def __init__(self, error: ApexError, code: int | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.code = code


class Link:
    """One connection after another, as if it were one."""

    def __init__(
        self,
        place: Place,
        credentials: Credentials,
        user: User,
        *,
        ways: Sequence[Way] | None,
        on_state: Callable[[State], None] | None,
        proxy: str | None,
        jitter: Callable[[], float] | None,
    ) -> None:
        self.state = State("connecting")
        self.welcome: Welcome | None = None
        self._place = place
        self._credentials = credentials
        self._user = user
        self._ways = list(ways or credentials.ways())
        self._on_state = on_state
        self._proxy = proxy
        self._jitter = jitter or random.random
        self._way = 0
        self._failures = 0
        self._drained_at: float | None = None
        self._last_id = 0
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._awake = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        self._heard = 0.0
        self.closing = False
        """Set before `run` is cancelled: `wait_for` can lose a cancellation, until Python 3.12."""

    @property
    def open(self) -> bool:
        """Whether frames can be sent now."""
        return self.state.name == "open"

    def id(self) -> str:
        """The id of the next frame."""
        self._last_id += 1
        return f"c{self._last_id}"

    def send(self, frame: dict[str, Any]) -> None:
        """Sends at once, or as soon as the server's limit of frames allows."""
        self._outbox.put_nowait(json.dumps(frame))

    def wake(self) -> None:
        """Tries now what would be tried later."""
        self._awake.set()

    def later(self, failures: int, asked: float | None, act: Callable[[], None]) -> None:
        """Does it after a while."""
        wait = backoff(failures, self._jitter()) if asked is None else asked
        asyncio.get_running_loop().call_later(wait, act)

    async def run(self) -> None:
        """Until it is closed for good."""
        try:
            while not self.closing:
                self._enter(State("connecting"))
                await self._pause(*await self._chain())
            raise asyncio.CancelledError
        except _Stop as stop:
            self._close(stop.error, stop.code)
        except asyncio.CancelledError:
            self._close(ApexError("cancelled", "the client was closed"), None)

    def _close(self, error: ApexError, code: int | None) -> None:
        self._enter(State("closed", error=error, code=code))
        self._user.closed(error)

    def _enter(self, state: State) -> None:
        self.state = state
        _log.debug("%s", state)
        if self._on_state:
            try:
                self._on_state(state)
            except Exception:
                _log.exception("what was told the state failed")

    # Connecting.

    async def _chain(self) -> tuple[str, float | None]:
        """Walks the ways and stays in; gives why to come back, and how long to wait at least."""
        left = len(self._ways)
        second = False
        while True:
            way = self._ways[self._way]
            try:
                credential = await self._credentials.fresh(way)
            except Exception as error:
                return _refused(error)
            end = await self._connection(way, credential)
            if self.closing:
                raise asyncio.CancelledError
            action = on_close(end.code, end.welcomed, way)
            if action == "new_ticket":
                if not second:
                    second = True
                    continue
                action = "next_way"
            if action == "next_way":
                self._way = (self._way + 1) % len(self._ways)
                left -= 1
                second = False
                if left > 0:
                    continue
                if end.code == 4401:
                    action = "stop"
            if action == "stop":
                raise _Stop(meaning(end.code), end.code)
            return end.reason or f"closed with {end.code}", None

    async def _pause(self, reason: str, asked: float | None) -> None:
        self._failures += 1
        wait = backoff(self._failures, self._jitter())
        if self._drained_at is not None:
            wait = max(0.0, self._drained_at - time.monotonic())
            self._drained_at = None
        wait = max(wait, asked or 0.0)
        self._awake.clear()
        self._enter(State("waiting", reason=reason, retry_in=wait))
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._awake.wait(), wait)

    async def _connection(self, way: Way, credential: dict[str, str]) -> _End:
        """One connection, from its opening to its end."""
        opening = open_socket(self._place, way, credential, self._proxy, GOODBYE)
        try:
            socket = await asyncio.wait_for(opening, WELCOME)
        except InvalidStatus as refusal:
            status = refusal.response.status_code
            return _End(of_status(status), f"status {status}")
        except (OSError, asyncio.TimeoutError, EOFError, WebSocketException) as error:
            return _End(1006, str(error))
        try:
            if self.closing:
                return _End(1000, "")
            if way in ("header", "subprotocol") and socket.subprotocol is None:
                return _End(1006, "the subprotocol was lost on the way")
            if way == "hello":
                await socket.send(json.dumps({"frame": "hello", "id": self.id(), **credential}))
            return await self._conversation(socket, way)
        except ConnectionClosed as closed:
            return _ended(closed, welcomed=False)
        finally:
            await socket.close()

    async def _conversation(self, socket: ClientConnection, way: Way) -> _End:
        try:
            welcome = _parsed(await asyncio.wait_for(socket.recv(), WELCOME))
        except asyncio.TimeoutError:
            return _End(1006, "no welcome")
        if welcome is None or welcome["frame"] != "welcome":
            return _End(1006, "something else than welcome")
        self.welcome = welcome
        self._outbox = asyncio.Queue()
        beside = [
            asyncio.create_task(_write(socket, self._outbox, welcome["limits"])),
            asyncio.create_task(self._watch(socket, float(welcome["heartbeat_s"]))),
        ]
        began = self._heard = time.monotonic()
        try:
            self._user.welcomed(welcome)
            self._enter(State("open", way=way))
            while not self.closing:
                frame = _parsed(await socket.recv())
                self._heard = time.monotonic()
                if frame is None:  # what followed could not be trusted
                    return _End(1006, "no frame of the protocol", welcomed=True)
                self._take(frame)
            return _End(1000, "", welcomed=True)
        except ConnectionClosed as closed:
            return _ended(closed, welcomed=True)
        finally:
            for task in [*beside, self._renewing]:
                if task:
                    task.cancel()
            if time.monotonic() - began >= STEADY:
                self._failures = 0

    async def _watch(self, socket: ClientConnection, heartbeat: float) -> None:
        """Nothing heard for a heartbeat: asks for a sign of life, and gives up a connection that shows none."""
        while True:
            silent = time.monotonic() - self._heard
            if silent < heartbeat:
                await asyncio.sleep(heartbeat - silent)
                continue
            asked = time.monotonic()
            self.send({"frame": "ping", "id": self.id(), "n": self._last_id})
            await asyncio.sleep(PONG)
            if self._heard < asked:
                socket.transport.abort()
                return

    def _take(self, frame: ServerFrame) -> None:
        if frame["frame"] == "welcome":
            self.welcome = frame  # a credential was renewed
        elif frame["frame"] == "expiring":
            self._renewing = asyncio.create_task(self._renew())
        elif frame["frame"] == "draining":
            jitter = self._jitter() * frame["jitter_ms"]
            self._drained_at = time.monotonic() + (frame["after_ms"] + jitter) / 1_000
        else:
            self._user.take(frame)

    async def _renew(self) -> None:
        """A fresh credential extends the connection, or else it closes and the chain begins anew."""
        try:
            credential = await self._credentials.fresh(self._ways[self._way], lasting=True)
        except Exception as error:
            _log.warning("the credential could not be renewed: %s", error)
            return
        self.send({"frame": "hello", "id": self.id(), **credential})


async def _write(socket: ClientConnection, outbox: asyncio.Queue[str], limits: Limits) -> None:
    burst, per_second = limits["frames_burst"] * SHARE, limits["frames_per_s"] * SHARE
    tokens, at = burst, time.monotonic()
    while True:
        text = await outbox.get()
        now = time.monotonic()
        tokens, at = min(burst, tokens + (now - at) * per_second), now
        if tokens < 1:
            await asyncio.sleep((1 - tokens) / per_second)
        tokens -= 1
        try:
            await socket.send(text)
        except ConnectionClosed:
            return  # whoever reads sees it, too


def _parsed(text: str | bytes) -> ServerFrame | None:
    try:
        frame: object = json.loads(text)
    except ValueError:
        return None
    if not isinstance(frame, dict) or "frame" not in frame:
        return None
    return cast("ServerFrame", frame)


def _ended(closed: ConnectionClosed, *, welcomed: bool) -> _End:
    if closed.rcvd is None:
        return _End(1006, "the connection broke", welcomed)
    return _End(int(closed.rcvd.code), closed.rcvd.reason, welcomed)


def _refused(error: Exception) -> tuple[str, float | None] | NoReturn:
    """There is no credential to try with: for good where the error says so."""
    if isinstance(error, ApexError):
        if not error.retryable:
            raise _Stop(error, None) from None
        return str(error), error.retry_after
    if getattr(error, "retryable", True) is False:
        stop = ApexError("unauthenticated", str(error))
        stop.__cause__ = error
        raise _Stop(stop, None) from None
    return str(error) or type(error).__name__, None
