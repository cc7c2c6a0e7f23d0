"""What the native half calls: what is said more easily in Python."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import json
import logging
import pathlib
import uuid
from collections.abc import Callable, Coroutine, Mapping, Set
from contextvars import Context
from decimal import Decimal
from typing import Any, Protocol, cast

from netra_apex.exceptions import ApexError

__all__ = ["Context", "begin", "exception", "plain", "settle", "told"]

_log = logging.getLogger("netra_apex")


def exception(report: str) -> ApexError:
    """The exception for a report of the native half's."""
    return ApexError.of(json.loads(report))


def settle(future: asyncio.Future[Any], value: object, error: BaseException | None) -> None:
    """Ends a future, if somebody still waits for it."""
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


class _Done(Protocol):
    def begun(self, task: asyncio.Task[Any]) -> bool: ...
    def __call__(self, task: asyncio.Task[Any]) -> None: ...


def begin(
    loop: asyncio.AbstractEventLoop,
    function: Callable[[Any, Any], Coroutine[Any, Any, Any]],
    value: object,
    work: object,
    done: _Done,
    context: Context,
) -> None:
    """Begins an asynchronous function as a task with these context variables."""
    task = context.run(_task, loop, function, value, work)
    if done.begun(task):
        task.add_done_callback(done)
    else:
        task.cancel()


def _task(
    loop: asyncio.AbstractEventLoop,
    function: Callable[[Any, Any], Coroutine[Any, Any, Any]],
    value: object,
    work: object,
) -> asyncio.Task[Any]:
    return loop.create_task(function(value, work))


def told(error: BaseException) -> tuple[str | None, str]:
    """The code of an exception of a function's, if it is one of Apex's, and what it says. Its stack goes to the log."""
    if isinstance(error, ApexError):
        return error.code, str(error)
    _log.warning("a function raised %s", type(error).__name__, exc_info=(type(error), error, error.__traceback__))
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = ""
    if last is not None:
        code = last.tb_frame.f_code
        where = f" ({pathlib.PurePath(code.co_filename).name}:{last.tb_lineno} in {code.co_name})"
    said = str(error).encode("utf-8", "replace").decode()
    return None, f"{type(error).__name__}: {said}{where}"


def plain(value: Any) -> object:
    """A value that JSON does not know as one that it does."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal | uuid.UUID | pathlib.PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(cast(Mapping[object, object], value))
    if isinstance(value, Set):
        return list(cast(Set[object], value))
    raise TypeError(f"a {type(value).__name__} is no JSON; return text, numbers, lists, dicts, dataclasses or models")
