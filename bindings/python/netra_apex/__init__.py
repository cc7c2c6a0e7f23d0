"""Apex for Python: agents in your own process, whose every step is on record before anyone sees it.

    from netra_apex import Apex, Context

    def shout(word: str) -> str:
        return word + "!"

    async def hello(text: str, context: Context) -> str:
        return await context.call(shout, word=text)

    print(Apex(agents=[hello], tools=[shout]).run("hello").text)

`netra_apex.client` is the client of a server elsewhere, in pure Python; `netra_apex.exceptions` is what goes wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netra_apex.exceptions import (
    AccessError,
    ApexError,
    ConfigurationError,
    DataError,
    DefectError,
    LimitError,
    RequestError,
    RunError,
    StorageError,
    UnavailableError,
)

if TYPE_CHECKING:
    from netra_apex._apex import Apex, Reset, Run, Server
    from netra_apex._context import Context, ToolContext
    from netra_apex._functions import agent, tool
    from netra_apex._host import MemoryStore
    from netra_apex._native import User
    from netra_apex._report import Report, analyse, inspect
    from netra_apex._values import (
        Answer,
        Artifact,
        File,
        Login,
        LoginRequest,
        Message,
        ModelAnswer,
        Note,
        Page,
        Plan,
        Request,
        Step,
        Thread,
        Ticket,
    )
    from netra_apex.wire import Envelope

__all__ = [
    "AccessError",
    "Answer",
    "Apex",
    "ApexError",
    "Artifact",
    "ConfigurationError",
    "Context",
    "DataError",
    "DefectError",
    "Envelope",
    "File",
    "LimitError",
    "Login",
    "LoginRequest",
    "MemoryStore",
    "Message",
    "ModelAnswer",
    "Note",
    "Page",
    "Plan",
    "Report",
    "Request",
    "RequestError",
    "Reset",
    "Run",
    "RunError",
    "Server",
    "Step",
    "StorageError",
    "Thread",
    "Ticket",
    "ToolContext",
    "UnavailableError",
    "User",
    "agent",
    "analyse",
    "inspect",
    "tool",
]

# What stands on the native half is loaded when it is asked for: the client needs none of it.
_LATER = {
    "_apex": ("Apex", "Reset", "Run", "Server"),
    "_context": ("Context", "ToolContext"),
    "_functions": ("agent", "tool"),
    "_host": ("MemoryStore",),
    "_native": ("User",),
    "_report": ("Report", "analyse", "inspect"),
    "_values": (
        "Answer",
        "Artifact",
        "File",
        "Login",
        "LoginRequest",
        "Message",
        "ModelAnswer",
        "Note",
        "Page",
        "Plan",
        "Request",
        "Step",
        "Thread",
        "Ticket",
    ),
    "wire": ("Envelope",),
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    for module, names in _LATER.items():
        if name in names:
            value = getattr(import_module(f"netra_apex.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'netra_apex' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
