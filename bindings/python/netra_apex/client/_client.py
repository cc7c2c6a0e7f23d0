"""What is asked and what is followed, over connections that come and go."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, cast

from netra_apex.client._closing import Way
from netra_apex.client._link import Link, State
from netra_apex.client._stream import Cursor, Reset, Stream
from netra_apex.client._ways import Credentials, Fetching, Place
from netra_apex.exceptions import ApexError
from netra_apex.wire import (
    AcceptedFrame,
    Envelope,
    ErrorFrame,
    InboxFrame,
    ResetFrame,
    ServerFrame,
    Subscribed,
    Welcome,
)

INBOX = "inbox"
MOST_REQUESTS = 1_024
"""Without an answer yet."""

_ENDED = ("completed", "failed", "cancelled")
_TERMINAL = ("run_completed", "run_failed", "run_cancelled")


@dataclass(frozen=True)
class Accepted:
    """A message is on record."""

    run: str
    thread: str
    request_id: str


class Answer(Stream[Envelope]):
    """A run that was asked for."""

    _accepted: asyncio.Future[Accepted]

    async def accepted(self) -> Accepted:
        """The run and its conversation, when the message is on record."""
        return await asyncio.shield(self._accepted)


@dataclass
class _Followed:
    stream: Stream[Any]
    frame: str | None = None
    """The id of the frame that asked for it last."""
    asking: bool = False
    """Whether the answer to that frame is still to come; entries before it belong to an earlier one."""
    paused: bool = False
    """Whether its reader is behind."""
    failures: int = 0
    """How often asking failed since it last worked."""


@dataclass
class _Request:
    frame: dict[str, Any]
    answer: asyncio.Future[Any]


def connect(
    url: str,
    *,
    ticket: Fetching | None = None,
    token: Fetching | str | None = None,
    ways: Sequence[Way] | None = None,
    on_state: Callable[[State], None] | None = None,
    buffer: int = 256,
    proxy: str | None = None,
    jitter: Callable[[], float] | None = None,
) -> Client:
    """A client of the service at `http(s)://host[:port][/prefix]`; `async with` connects it.

    `ticket` fetches a new ticket, once for each attempt; `token` is a service's bearer token, or fetches it. What they
    raise is a reason to try again later, unless its `retryable` is `False`. `ways` are those to try, in this order;
    `on_state` is told each new state; `buffer` entries of a stream may wait for its reader; `proxy` is the address of
    an HTTP proxy; `jitter` gives the random part of pauses, from 0 to 1.
    """
    place = Place(url)
    credentials = Credentials(place, ticket, token)
    return Client(place, credentials, ways=ways, on_state=on_state, buffer=buffer, proxy=proxy, jitter=jitter)


class Client:
    """A live connection, kept until it is closed or for a reason that no further try would change. See `connect`."""

    def __init__(
        self,
        place: Place,
        credentials: Credentials,
        *,
        ways: Sequence[Way] | None,
        on_state: Callable[[State], None] | None,
        buffer: int,
        proxy: str | None,
        jitter: Callable[[], float] | None,
    ) -> None:
        self._link = Link(place, credentials, self, ways=ways, on_state=on_state, proxy=proxy, jitter=jitter)
        self._buffer = buffer
        self._task: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()
        self._requests: dict[str, _Request] = {}
        self._followed: dict[str, _Followed] = {}
        self._answers: dict[str, Answer] = {}

    async def __aenter__(self) -> Client:
        """Connects; raises why that will never be, and waits while it may yet."""
        self._task = asyncio.create_task(self._link.run(), name="netra_apex.client")
        try:
            await self._opened.wait()
        except asyncio.CancelledError:
            await self.close()
            raise
        if self.state.error:
            raise self.state.error.again()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def state(self) -> State:
        """Where the connection is."""
        return self._link.state

    def wake(self) -> None:
        """Tries now what would be tried later: the network may have come back."""
        self._link.wake()

    async def close(self) -> None:
        """Ends the connection and all that waits for it."""
        if self._task and not self._task.done():
            self._link.closing = True
            self._task.cancel()
            await asyncio.wait([self._task])

    def ask(
        self,
        text: str,
        *,
        thread: str | None = None,
        attachments: Sequence[str] = (),
        request_id: str | None = None,
    ) -> Answer:
        """Sends a message, and follows its run from the start.

        Through reconnects it is sent again under the same `request_id`, which makes no second run. `thread` is the
        conversation that it goes on, a new one by default; `attachments` are ids of files that were uploaded.
        """
        request_id = request_id or str(uuid.uuid4())
        files = [{"file": file} for file in attachments]
        frame: dict[str, Any] = {"frame": "message", "request_id": request_id, "text": text, "attachments": files}
        if thread:
            frame["thread"] = thread
        answer = Answer(Cursor(), self, self._buffer)
        frame_id = self._link.id()
        accepted = self._request(frame_id, frame)
        self._answers[frame_id] = answer
        answer._accepted = _map(accepted, lambda frame: Accepted(frame["run"], frame["thread"], request_id))  # pyright: ignore[reportPrivateUsage]
        accepted.add_done_callback(lambda done: self._refused(answer, done))
        return answer

    def follow(self, run: str, cursor: Cursor | None = None) -> Stream[Envelope]:
        """Follows a run, from its start or from where an earlier reader was. It has one reader: the last one."""
        return self._follow(run, cursor)

    def inbox(self, cursor: Cursor | None = None) -> Stream[InboxFrame]:
        """Follows the user's inbox: each run that begins, waits and ends."""
        return self._follow(INBOX, cursor)

    async def cancel(self, run: str) -> None:
        """Tells a run to end; returns when that is on record."""
        await self._order({"frame": "cancel", "run": run})

    async def stop(self, run: str, step: str) -> None:
        """Ends one step of a run: the answer does without it."""
        await self._order({"frame": "stop", "run": run, "step": step})

    async def decide(self, run: str, approval: str, digest: str, decision: Literal["approve", "deny"]) -> None:
        """Answers an `approval_requested`: the first decision wins, a later one is refused with `conflict`."""
        fields = {"run": run, "approval": approval, "digest": digest, "decision": decision}
        await self._order({"frame": "decide", **fields})

    # What is asked.

    def _request(self, frame_id: str, frame: dict[str, Any]) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        # Whoever reads the answer's stream, or has gone, need not look here.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self.state.error:
            answer.set_exception(self.state.error.again())
        elif len(self._requests) >= MOST_REQUESTS:
            message = f"{MOST_REQUESTS} requests wait for their answers already"
            answer.set_exception(ApexError("rate_limited", message, retryable=True))
        else:
            self._requests[frame_id] = _Request({**frame, "id": frame_id}, answer)
            if self._link.open:
                self._link.send(self._requests[frame_id].frame)
        return answer

    async def _order(self, frame: dict[str, Any]) -> None:
        frame_id = self._link.id()
        try:
            await self._request(frame_id, frame)
        finally:
            self._requests.pop(frame_id, None)

    def _refused(self, answer: Answer, done: asyncio.Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, ApexError):
            answer.end(error.again())

    # What is followed.

    def _follow(self, key: str, cursor: Cursor | None) -> Stream[Any]:
        start = Cursor(cursor.epoch, cursor.last) if cursor else Cursor()
        stream: Stream[Any] = Stream(start, self, self._buffer)
        if self.state.error:
            stream.end(self.state.error.again())
        else:
            followed = self._register(key, stream)
            if self._link.open:
                self._subscribe(key, followed)
        return stream

    def _register(self, key: str, stream: Stream[Any]) -> _Followed:
        before = self._followed.get(key)
        followed = self._followed[key] = _Followed(stream)
        if before:
            before.stream.end()
        return followed

    def _of(self, stream: Stream[Any]) -> tuple[str, _Followed] | None:
        return next(((key, one) for key, one in self._followed.items() if one.stream is stream), None)

    def _subscribe(self, key: str, followed: _Followed) -> None:
        what = {"frame": "inbox"} if key == INBOX else {"frame": "subscribe", "run": key}
        followed.frame = self._link.id()
        followed.asking = True
        self._link.send({**what, "id": followed.frame, **followed.stream.cursor.position()})

    def _leave(self, key: str) -> None:
        # The inbox cannot be left: what it goes on to say is passed over.
        if self._link.open and key != INBOX:
            self._link.send({"frame": "unsubscribe", "id": self._link.id(), "run": key})

    def over(self, stream: Stream[Any]) -> None:
        """Of a stream: its reader is gone, or has seen the end."""
        if found := self._of(stream):
            del self._followed[found[0]]
            self._leave(found[0])
        for frame_id, answer in list(self._answers.items()):
            if answer is stream:
                del self._answers[frame_id]
                self._settle(frame_id, ApexError("cancelled", "the answer is no longer waited for"))

    def behind(self, stream: Stream[Any]) -> None:
        """Of a stream: no more for now."""
        if found := self._of(stream):
            found[1].paused = True
            self._leave(found[0])

    def caught_up(self, stream: Stream[Any]) -> None:
        """Of a stream: what was left out, please."""
        if found := self._of(stream):
            found[1].paused = False
            if self._link.open:
                self._subscribe(*found)

    def _finish(self, key: str, followed: _Followed, error: ApexError | None = None) -> None:
        self._followed.pop(key, None)
        followed.stream.end(error)

    # What the connection says.

    def welcomed(self, welcome: Welcome) -> None:
        """Of the connection: everything has to be asked anew."""
        for key, followed in self._followed.items():
            if not followed.paused:
                self._subscribe(key, followed)
        for request in self._requests.values():
            self._link.send(request.frame)
        self._opened.set()

    def closed(self, error: ApexError) -> None:
        """Of the connection: for good."""
        requests, self._requests = self._requests, {}
        for request in requests.values():
            if not request.answer.done():
                request.answer.set_exception(error.again())
        for key, followed in list(self._followed.items()):
            self._finish(key, followed, error.again())
        self._opened.set()

    def take(self, frame: ServerFrame) -> None:
        """Of the connection: a frame."""
        if frame["frame"] == "event":
            self._entry(frame["run"], frame["epoch"], frame.get("seq"), frame, frame["type"] in _TERMINAL)
        elif frame["frame"] == "inbox":
            self._entry(INBOX, frame["epoch"], frame["seq"], frame, False)
        elif frame["frame"] == "subscribed":
            self._subscribed(frame)
        elif frame["frame"] == "reset":
            self._reset(frame)
        elif frame["frame"] == "accepted":
            self._accepted(frame)
        elif frame["frame"] == "ok":
            self._settle(str(frame["id"]), frame)
        elif frame["frame"] == "error":
            self._error(frame)
        # `pong`, and what later versions may add, says nothing more.

    def _entry(self, key: str, epoch: str, seq: int | None, entry: object, last: bool) -> None:
        followed = self._followed.get(key)
        if not followed or followed.asking or followed.paused:
            return
        stream = followed.stream
        verdict = stream.cursor.judge(epoch, seq)
        if verdict == "gap":
            self._subscribe(key, followed)
        elif verdict == "apply" and stream.push(entry):
            stream.cursor.moved(epoch, seq)
            if last:
                self._finish(key, followed)

    def _subscribed(self, frame: Subscribed) -> None:
        found = self._asked_by(str(frame["id"]))
        if not found:
            return
        key, followed = found
        followed.asking = False
        followed.failures = 0
        cursor = followed.stream.cursor
        cursor.epoch = cursor.epoch or frame["epoch"]
        if frame.get("state") in _ENDED and cursor.last >= frame["head"]:
            self._finish(key, followed)

    def _reset(self, frame: ResetFrame) -> None:
        key = frame.get("run") or INBOX
        followed = self._followed.get(key)
        if not followed or followed.paused or (followed.asking and followed.frame != frame.get("id")):
            return
        followed.asking = False
        reset = Reset.of(frame)
        if not followed.stream.push(reset):
            return
        followed.stream.cursor.moved(reset.epoch, reset.head)
        if reset.snapshot and reset.snapshot["state"] in _ENDED:
            self._finish(key, followed)

    def _accepted(self, frame: AcceptedFrame) -> None:
        """The sender is subscribed from the start; one whose answer was read before drops what it has."""
        frame_id = str(frame["id"])
        answer = self._answers.pop(frame_id, None)
        if answer:
            self._register(frame["run"], answer).frame = frame_id
        elif frame["run"] not in self._followed:
            self._leave(frame["run"])
        self._settle(frame_id, frame)

    def _error(self, frame: ErrorFrame) -> None:
        error = ApexError.of(cast("dict[str, Any]", frame))
        found = self._asked_by(str(frame.get("id")))
        if not found:
            self._settle(str(frame.get("id")), error)
            return
        key, followed = found
        if not error.retryable:
            self._finish(key, followed, error)
            return
        followed.failures += 1

        def again() -> None:
            if self._followed.get(key) is followed and not followed.paused and self._link.open:
                self._subscribe(key, followed)

        self._link.later(followed.failures, error.retry_after, again)

    def _asked_by(self, frame_id: str) -> tuple[str, _Followed] | None:
        return next(((key, one) for key, one in self._followed.items() if one.frame == frame_id), None)

    def _settle(self, frame_id: str, outcome: object) -> None:
        request = self._requests.pop(frame_id, None)
        if request is None or request.answer.done():
            return
        if isinstance(outcome, ApexError):
            request.answer.set_exception(outcome)
        else:
            request.answer.set_result(outcome)


def _map(source: asyncio.Future[Any], change: Callable[[Any], Accepted]) -> asyncio.Future[Accepted]:
    """What another future gives, changed; looked at or not."""
    mapped: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
    mapped.add_done_callback(lambda done: done.cancelled() or done.exception())

    def settle(done: asyncio.Future[Any]) -> None:
        if mapped.done():
            return
        error = done.exception()
        if error:
            mapped.set_exception(error)
        else:
            mapped.set_result(change(done.result()))

    source.add_done_callback(settle)
    return mapped
