"""Where a reader stands in a stream of numbered entries, and the reader's end of it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, TypeVar, cast

from netra_apex.exceptions import ApexError
from netra_apex.wire import ResetFrame, ResetReason, Snapshot

T = TypeVar("T")


@dataclass
class Cursor:
    """A position in a stream: what was applied so far, and whether the next entry may be."""

    epoch: str | None = None
    last: int = 0

    def judge(self, epoch: str, seq: int | None) -> Literal["apply", "drop", "gap"]:
        """`apply` an entry, `drop` it (seen before), or subscribe again because of a `gap`.

        Volatile events have no `seq` and do not move the position.
        """
        if self.epoch is not None and epoch != self.epoch:
            return "gap"
        if seq is None:
            return "apply"
        if seq <= self.last:
            return "drop"
        return "gap" if seq > self.last + 1 else "apply"

    def moved(self, epoch: str, seq: int | None) -> None:
        """An entry was applied, or a `reset`, after which the next one is `head + 1`."""
        if seq is not None:
            self.epoch, self.last = epoch, seq

    def position(self) -> dict[str, Any]:
        """As the fields of a `subscribe` frame."""
        return {} if self.epoch is None else {"epoch": self.epoch, "after": self.last}


@dataclass(frozen=True)
class Reset:
    """What lies between is not kept: this is where the run stands, and what follows comes after it."""

    reason: ResetReason
    epoch: str
    head: int
    snapshot: Snapshot | None

    @classmethod
    def of(cls, frame: ResetFrame) -> Reset:
        return cls(frame["reason"], frame["epoch"], frame["head"], frame.get("snapshot"))


class Keeper(Protocol):
    """What a client does for a stream."""

    def over(self, stream: Stream[Any]) -> None:
        """The reader is gone, or has seen the end."""

    def behind(self, stream: Stream[Any]) -> None:
        """No more for now."""

    def caught_up(self, stream: Stream[Any]) -> None:
        """What was left out, please."""


class Stream(Generic[T]):
    """A run, or the inbox, as its reader sees it.

    Read it by `async for`. Whoever leaves before the end closes it, by `async with` or `aclose`; the run goes on.
    A reader that does not read holds at most `limit` entries: then the subscription pauses, and goes on from its
    position when these are read.
    """

    def __init__(self, cursor: Cursor, keeper: Keeper, limit: int) -> None:
        self.cursor = cursor
        """Where the reader is; kept elsewhere, it begins there again."""
        self.ended = False
        """Whether nothing will follow."""
        self._keeper = keeper
        self._limit = limit
        self._waiting: deque[T | Reset] = deque()
        self._error: ApexError | None = None
        self._more = asyncio.Event()
        self._behind = False

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T | Reset:
        while not self._waiting:
            if self.ended:
                error, self._error = self._error, None
                if error:
                    raise error
                raise StopAsyncIteration
            if self._behind:
                self._behind = False
                self._keeper.caught_up(self)
            self._more.clear()
            await self._more.wait()
        return self._waiting.popleft()

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """No more of it. The run goes on: `Client.cancel` ends it."""
        if not self.ended:
            self._waiting.clear()
            self.end()

    # The client's side.

    def push(self, entry: T | Reset) -> bool:
        """Takes an entry; `False` when there is no place for it."""
        if self._behind:
            return False
        if len(self._waiting) >= self._limit:
            # A volatile one that nobody has time for is gone.
            if not isinstance(entry, Reset) and cast("dict[str, Any]", entry).get("seq") is None:
                return False
            self._behind = True
            self._keeper.behind(self)
            return False
        self._waiting.append(entry)
        self._more.set()
        return True

    def end(self, error: ApexError | None = None) -> None:
        """Nothing will follow; with an error when that is not as it should be."""
        if self.ended:
            return
        self.ended = True
        self._error = error
        self._keeper.over(self)
        self._more.set()
