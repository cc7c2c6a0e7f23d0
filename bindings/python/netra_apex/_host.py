"""What else can be the host's: who comes in, secrets, whoever is told of alerts, and where notes are kept."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

from netra_apex._functions import ended
from netra_apex._values import Login, LoginRequest, Note

__all__ = ["DoorParts", "FunctionParts", "MemoryStore", "door_parts", "function_parts", "memory_parts"]

FunctionParts: TypeAlias = tuple[Callable[[Any, object], Any], bool]
DoorParts: TypeAlias = tuple[list[str], bool, FunctionParts]


class MemoryStore(Protocol):
    """Keeps what agents remember of users where the host wants it; each method may be `async` or not.

    `user` is the id of the account. Which notes may be kept, by whom and how many is checked before a method is called.
    Whatever a method raises is `storage_failed`, or an `ApexError`'s own code.
    """

    def keep(self, user: str, note: Note, /) -> Awaitable[None] | None:
        """Keeps a note in place of the one of its name, if there is one."""
        ...

    def notes(self, user: str, /) -> Awaitable[Sequence[Note]] | Sequence[Note]:
        """All notes of the user, in any order."""
        ...

    def forget(self, user: str, name: str, /) -> Awaitable[bool] | bool:
        """Forgets a note; says whether there was one."""
        ...

    def forget_all(self, user: str, /) -> Awaitable[int] | int:
        """Forgets all notes of the user; says how many there were."""
        ...


def function_parts(
    function: Callable[..., Any],
    takes: Callable[[Any], tuple[Any, ...]] = lambda value: (value,),
    gives: Callable[[Any], object] = lambda made: made,
) -> FunctionParts:
    """What the native half is told of a function that takes and gives something else than JSON."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):

        async def work(value: Any, _: object) -> Any:
            return gives(await function(*takes(value)))

        return work, True

    def work_here(value: Any, _: object) -> Any:
        return gives(ended(function(*takes(value))))

    return work_here, False


def door_parts(check: Callable[[LoginRequest], object], headers: Sequence[str]) -> DoorParts:
    """What the native half is told of the host's own check of who comes in."""

    def known(user: object) -> dict[str, Any] | None:
        login = Login(user) if isinstance(user, str) else user
        if login is not None and not isinstance(login, Login):
            told = f"authenticate returned a {type(login).__name__}; return the name of a user, a Login, or None"
            raise TypeError(told)
        return login and {"user": login.user, "expires_in": login.expires_in}

    verify = function_parts(check, lambda value: (LoginRequest(**value),), known)
    return [name.lower() for name in headers], False, verify


def memory_parts(store: MemoryStore) -> tuple[FunctionParts, FunctionParts, FunctionParts, FunctionParts]:
    """What the native half is told of a host's memory store."""

    def said(notes: Any) -> list[dict[str, Any]]:
        if not isinstance(notes, Sequence) or not all(isinstance(note, Note) for note in cast(Sequence[Any], notes)):
            raise TypeError("notes returned something else than a list of Note")
        return [vars(note) for note in cast(Sequence[Note], notes)]

    return (
        function_parts(store.keep, lambda asked: (asked["user"], Note.of(asked["note"]))),
        function_parts(store.notes, lambda asked: (asked["user"],), said),
        function_parts(store.forget, lambda asked: (asked["user"], asked["name"])),
        function_parts(store.forget_all, lambda asked: (asked["user"],)),
    )
