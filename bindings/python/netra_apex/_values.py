"""What Apex hands over and takes, as values."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")

__all__ = [
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
]


@dataclass(frozen=True)
class Request:
    """What the user asked."""

    text: str
    """The words."""
    files: Sequence[str] = ()
    """The ids of the files that belong to them."""


@dataclass(frozen=True)
class Artifact:
    """A document that a run made."""

    artifact: str
    """Its id."""
    name: str
    """Its file name."""
    bytes: int
    """Its size."""
    sha256: str
    """Its digest, hexadecimal."""


@dataclass(frozen=True)
class Answer:
    """What a completed run gives the user. An agent that returns one ends the run with it."""

    text: str
    """The answer, as Markdown."""
    status: Literal["answered", "insufficient_data"] = "answered"
    """Whether the question is answered."""
    artifacts: Sequence[Artifact] = ()
    """Documents that belong to it."""
    run: str | None = field(default=None, compare=False)
    """The run."""
    thread: str | None = field(default=None, compare=False)
    """The conversation."""

    @classmethod
    def of(cls, said: Mapping[str, Any], run: str, thread: str) -> Answer:
        artifacts = tuple(Artifact(**artifact) for artifact in said["artifacts"])
        return cls(said["text"], said["status"], artifacts, run, thread)


@dataclass(frozen=True)
class Step:
    """A step of a plan: one agent's work."""

    agent: str
    """The agent."""
    needs: Sequence[str] = ()
    """The agents whose results it is handed."""
    purpose: str = ""
    """What it is to do here; empty for the agent's own purpose."""
    optional: bool = False
    """Whether the run goes on without it when it fails."""


@dataclass(frozen=True)
class Plan:
    """The steps that follow. Those whose needs are met run side by side."""

    steps: Sequence[Step | str]
    """The steps, each agent at most once; a name alone is a step that needs nothing."""
    question: str | None = None
    """The request in words that stand for themselves, where the user's own lean on what was said before; the steps work
    on these."""


@dataclass(frozen=True)
class Thread:
    """A conversation."""

    thread: str
    """Its id."""
    owner: str
    """Whose it is."""
    title: str
    """The first words of its first message."""
    created_at: datetime.datetime
    """When it began."""
    updated_at: datetime.datetime
    """When the last message was added."""


@dataclass(frozen=True)
class Message:
    """Something that was said in a conversation."""

    run: str
    """The run that it belongs to."""
    role: Literal["user", "assistant"]
    """Who said it."""
    text: str
    """The words, as Markdown."""
    attachments: Sequence[str]
    """The files that belong to it."""
    at: datetime.datetime
    """When."""


@dataclass(frozen=True)
class File:
    """A file of a user's."""

    file: str
    """Its id."""
    name: str
    """Its name."""
    bytes: int
    """Its size."""
    sha256: str
    """Its digest, hexadecimal."""
    at: datetime.datetime
    """When it was brought."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> File:
        return cls(told["file"], told["name"], told["bytes"], told["sha256"], moment(told["at"]))


@dataclass(frozen=True)
class Page(Generic[T]):
    """A piece of a list."""

    items: Sequence[T]
    """The items."""
    next: str | None
    """The cursor that the next piece follows; `None` at the end."""


@dataclass(frozen=True)
class Ticket:
    """What opens one connection once."""

    ticket: str = field(repr=False)
    """The ticket; shown once."""
    expires_at: datetime.datetime
    """When it lapses."""


@dataclass(frozen=True)
class LoginRequest:
    """What a request presents to the host's `authenticate`."""

    headers: Mapping[str, str] = field(repr=False)
    """Those of the named headers that it has, in small letters."""
    origin: str | None
    """The page that it comes from."""
    address: str | None
    """The client's address, where it is known."""

    @property
    def bearer(self) -> str | None:
        """The token of `Authorization: Bearer`."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if kind.lower() == "bearer" and token else None


@dataclass(frozen=True)
class Login:
    """Whom the host's `authenticate` lets in, and for how long."""

    user: str
    """Your own name of the user."""
    expires_in: float | None = None
    """How many seconds a connection lasts before it is asked again; a day where nothing is said."""


@dataclass(frozen=True)
class Note:
    """Something that agents remember of a user."""

    name: str
    """By which it is found and replaced."""
    text: str
    """What is remembered: data, never an instruction."""
    run: str | None
    """The run that wrote it."""
    at: datetime.datetime
    """When it was written."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Note:
        return cls(told["name"], told["text"], told["run"], moment(told["at"]))


@dataclass(frozen=True)
class ModelAnswer:
    """What a model answered."""

    text: str
    """All text, without thoughts."""
    provider: str
    """The provider."""
    model: str
    """The model that answered, as the provider names it."""
    finish: str
    """Why it stopped: `stop`, `tool_calls`, `length`, `refused`, `paused`, or the provider's own word."""
    parts: Sequence[Mapping[str, Any]]
    """What it said, in order."""
    usage: Mapping[str, Any] | None
    """What is billed."""


def moment(text: str) -> datetime.datetime:
    """A time as Apex writes it."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
