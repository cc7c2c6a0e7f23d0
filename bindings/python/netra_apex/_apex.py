"""An Apex inside this process."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from netra_apex import _functions, _host, _logging, _native
from netra_apex._native import User
from netra_apex._values import Answer, Artifact, File, Login, LoginRequest, Message, Page, Thread, Ticket, moment
from netra_apex.client import Reset
from netra_apex.exceptions import ApexError

if TYPE_CHECKING:
    from typing_extensions import Self

    from netra_apex._asgi import Asgi
    from netra_apex._host import MemoryStore
    from netra_apex.wire import Envelope

__all__ = ["Apex", "Reset", "Run", "Server"]

F = TypeVar("F", bound=Callable[..., Any])
Known: TypeAlias = str | Login | None

# Before the interpreter ends: threads that still wanted its lock would take it down.
atexit.register(_native.shut_down)


class Apex:
    """Agents in your own product, inside your own process.

    It is open within `async with`, or between `open` and `close`, and answers nothing before and after. Functions of
    yours that are `async` run on the loop that opened it, others on threads.

    - `config`: sections with their fields, as in the file. A `file` holds over it, and an `environ` over that, which is
      not read unless you hand it over: `environ=os.environ`. Without any of them everything is kept in memory.
    - `agents`, `tools`: your functions. Runs begin with `entry`, or with the first of your agents.
    - `team`: whether Apex's own agents are there beside yours; they always are where you have none.
    - `authenticate`: who comes in by the headers named in `credentials`: a function that takes a `LoginRequest` and
      returns your own name of the user, a `Login`, or `None`. One that raises lets nobody in: `unavailable`.
    - `secret`: a function that gives the secret of a configuration key, or `None`.
    - `on_alert`: a function that is told of alerts and notices, each a dict, in order. Nobody waits for it.
    - `memory`: a `MemoryStore` of yours for what agents remember of users.
    - `contract`: prices that hold instead of the list's.

    Opening raises `ConfigurationError` with every fault.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        file: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        prefix: str | None = None,
        secrets_dir: str | os.PathLike[str] | None = None,
        agents: Sequence[Callable[..., Any]] = (),
        tools: Sequence[Callable[..., Any]] = (),
        entry: str | Callable[..., Any] | None = None,
        team: bool = False,
        authenticate: Callable[[LoginRequest], Known | Awaitable[Known]] | None = None,
        credentials: Sequence[str] = ("authorization",),
        secret: Callable[[str], str | None | Awaitable[str | None]] | None = None,
        on_alert: Callable[[dict[str, Any]], object] | None = None,
        memory: MemoryStore | None = None,
        contract: Mapping[str, Any] | bytes | None = None,
    ) -> None:
        self._config = config
        self._file, self._environ, self._prefix, self._secrets_dir = file, environ, prefix, secrets_dir
        self._agents, self._tools = list(agents), list(tools)
        self._entry, self._team = entry, team
        self._authenticate, self._credentials = authenticate, list(credentials)
        self._secret, self._on_alert, self._contract = secret, on_alert, contract
        self._memory = memory
        self._native: _native.Native | None = None

    def __repr__(self) -> str:
        return f"<Apex {'open' if self._native else 'closed'}, {len(self._agents)} agents, {len(self._tools)} tools>"

    def agent(self, function: F) -> F:
        """Adds an agent, as a decorator."""
        self._agents.append(function)
        return function

    def tool(self, function: F) -> F:
        """Adds a tool, as a decorator."""
        self._tools.append(function)
        return function

    async def open(self) -> Self:
        """Checks everything, opens the stores, and begins to work on runs, also on those of an earlier process."""
        if self._native is None:
            _logging.collect()
            self._native = await _native.Native.open(self._parts())
        return self

    async def close(self, *, drain: float = 5.0) -> bool:
        """Takes no more work, gives runs `drain` seconds to end, and saves the rest; says whether that went well."""
        native, self._native = self._native, None
        if native is None:
            return True
        try:
            return await native.drain(drain)
        finally:
            native.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def run(self, text: str, *, user: str = "me", files: Sequence[str | os.PathLike[str]] = ()) -> Answer:
        """Opens, asks, closes, and gives the answer: for scripts, where no loop runs. `files` are paths."""

        async def once() -> Answer:
            async with self:
                ids = [(await self.upload(path, user=user)).file for path in files]
                return await self.ask(text, user=user, files=ids)

        return asyncio.run(once())

    async def user(self, name: str) -> User:
        """Vouches for a user whom you have verified, by your own name for them."""
        return await self._open.user(name)

    async def start(
        self,
        text: str,
        *,
        user: User | str = "me",
        thread: str | None = None,
        files: Sequence[str] = (),
        request: str | None = None,
    ) -> Run:
        """Puts a message on record and starts its run. The same message under the same `request` (a UUID) is one run.

        The functions that the run calls find the context variables of this call.
        """
        native, who = self._open, await self._who(user)
        ask = {"text": text, "thread": thread, "files": list(files), "request": request}
        said = await native.start(who, ask, contextvars.copy_context())
        return Run(self, who, said["run"], said["thread"])

    async def ask(
        self, text: str, *, user: User | str = "me", thread: str | None = None, files: Sequence[str] = ()
    ) -> Answer:
        """Asks, and waits for the answer. Raises the error with which the run failed; `cancelled`."""
        run = await self.start(text, user=user, thread=thread, files=files)
        return await run.answer()

    async def follow(
        self, run: str, *, user: User | str = "me", after: int = 0, epoch: str | None = None
    ) -> AsyncIterator[Envelope | Reset]:
        """The events of a run in order, each once, from its beginning or from after a position, to its end."""
        events = await self._open.follow(await self._who(user), run, after, epoch)
        while True:
            batch = await events.next_many()
            if batch is None:
                return
            for event in json.loads(batch):
                yield Reset.of(event["data"]) if event["type"] == "reset" else event

    async def state(self, run: str, *, user: User | str = "me") -> dict[str, Any]:
        """Where a run stands."""
        return await self._open.run(await self._who(user), run)

    async def cancel(self, run: str, *, user: User | str = "me", step: str | None = None) -> None:
        """Tells a run to stop, or one step of it."""
        who = await self._who(user)
        await (self._open.cancel(who, run) if step is None else self._open.stop(who, run, step))

    async def decide(
        self,
        run: str,
        approval: str,
        digest: str,
        decision: Literal["approve", "deny"],
        *,
        user: User | str = "me",
    ) -> None:
        """Decides what a run waits for, as its `approval_requested` says."""
        await self._open.decide(await self._who(user), run, approval, digest, decision)

    async def threads(
        self, *, user: User | str = "me", shared: bool = False, cursor: str | None = None, most: int = 50
    ) -> Page[Thread]:
        """A page of the user's conversations, or of those that others share."""
        page = await self._open.threads(await self._who(user), shared, cursor, most)
        return _page(page, Thread, "created_at", "updated_at")

    async def messages(
        self, thread: str, *, user: User | str = "me", cursor: str | None = None, most: int = 50
    ) -> Page[Message]:
        """A page of what was said in a conversation, oldest first."""
        page = await self._open.messages(await self._who(user), thread, cursor, most)
        return _page(page, Message, "at")

    async def forget(self, thread: str, *, user: User | str = "me") -> None:
        """Deletes a conversation, its runs and what they made."""
        await self._open.forget(await self._who(user), thread)

    async def upload(
        self, content: str | os.PathLike[str] | bytes, *, user: User | str = "me", name: str | None = None
    ) -> File:
        """Keeps a file of the user's: a path, or bytes with a `name`."""
        who = await self._who(user)
        if isinstance(content, bytes):
            if name is None:
                raise TypeError("bytes need a name")
            told = await self._open.upload(who, name, content)
        else:
            told = await self._open.upload_path(who, name or Path(content).name, os.fspath(content))
        return File.of(told)

    async def files(self, *, user: User | str = "me") -> list[File]:
        """The user's files, newest first."""
        return [File.of(told) for told in await self._open.files(await self._who(user))]

    async def read_file(self, file: str, *, user: User | str = "me", most: int = 64 << 20) -> bytes:
        """The content of a file of the user's, up to `most` bytes."""
        return await self._open.file(await self._who(user), file, most)

    async def delete_file(self, file: str, *, user: User | str = "me") -> None:
        """Deletes a file of the user's."""
        await self._open.delete_file(await self._who(user), file)

    async def artifacts(self, run: str, *, user: User | str = "me") -> list[Artifact]:
        """What a run has made, by name."""
        made = await self._open.artifacts(await self._who(user), run)
        return [Artifact(one["artifact"], one["name"], one["bytes"], one["sha256"]) for one in made]

    async def artifact(self, artifact: Artifact | str, *, user: User | str = "me") -> bytes:
        """The content of something that a run has made."""
        of = artifact if isinstance(artifact, str) else artifact.artifact
        return await self._open.artifact(await self._who(user), of)

    async def usage(
        self,
        *,
        user: User | str = "me",
        run: str | None = None,
        by: Literal["all", "model", "outcome", "run", "step", "day"] = "all",
    ) -> list[dict[str, Any]]:
        """What the user's runs, or one of them, used of models, summed up."""
        return await self._open.usage(await self._who(user), run, by)

    async def ticket(self, user: User | str) -> Ticket:
        """A ticket with which a client of this user's connects once."""
        told = await self._open.ticket(await self._who(user))
        return Ticket(told["ticket"], moment(told["expires_at"]))

    async def health(self) -> dict[str, Any]:
        """How this node is doing: the whole of it, for your own eyes."""
        return await self._open.health()

    async def serve(self, address: str | None = None) -> Server:
        """Serves clients on a listener of Apex's own; `host:port`, by default that of the configuration."""
        return Server(await self._open.serve(address))

    def asgi(self) -> Asgi:
        """The routes of Apex as an ASGI application, to be mounted in FastAPI, Starlette or any other, or served alone.

        Mounted, it is opened by you: `FastAPI(lifespan=apex.lifespan)`.
        """
        from netra_apex._asgi import Asgi

        return Asgi(self)

    @property
    def lifespan(self) -> Callable[[object], AbstractAsyncContextManager[None]]:
        """Opens it with an application of FastAPI's or Starlette's, and closes it with that."""

        @asynccontextmanager
        async def lifespan(_: object) -> AsyncGenerator[None, None]:
            async with self:
                yield

        return lifespan

    @property
    def _open(self) -> _native.Native:
        if self._native is None:
            raise ApexError.of(
                {"code": "draining", "message": "this Apex is not open; use `async with`, or `await apex.open()`"}
            )
        return self._native

    async def _who(self, user: User | str) -> User:
        return await self._open.user(user) if isinstance(user, str) else user

    def _parts(self) -> dict[str, Any]:
        entry = self._entry
        contract = self._contract
        return {
            "settings": self._settings(),
            "agents": [_functions.agent_parts(agent) for agent in self._agents],
            "tools": [_functions.tool_parts(tool) for tool in self._tools],
            "entry": entry if entry is None or isinstance(entry, str) else _functions.agent_parts(entry)[0]["name"],
            "team": self._team,
            "door": self._authenticate and _host.door_parts(self._authenticate, self._credentials),
            "secrets": self._secret and _host.function_parts(self._secret),
            "watcher": self._on_alert and _host.function_parts(self._on_alert, gives=lambda _: None),
            "memory": self._memory and _host.memory_parts(self._memory),
            "contract": json.dumps(contract).encode() if isinstance(contract, Mapping) else contract,
        }

    def _settings(self) -> dict[str, Any] | None:
        given = (self._config, self._file, self._environ, self._secrets_dir, self._secret)
        if all(one is None for one in given):
            return None
        prefix = self._prefix or "APEX"
        environ = self._environ or {}
        return {
            "values": dict(self._config or {}),
            "file": None if self._file is None else os.fspath(self._file),
            "environment": {name: value for name, value in environ.items() if name.startswith(f"{prefix}_")},
            "prefix": prefix,
            "secrets_dir": None if self._secrets_dir is None else os.fspath(self._secrets_dir),
        }


class Run:
    """A run that was started: `async for` gives its events, `answer` waits for its end."""

    def __init__(self, apex: Apex, user: User, run: str, thread: str) -> None:
        self._apex = apex
        self.user = user
        """Whose it is."""
        self.id = run
        """Its id."""
        self.thread = thread
        """The conversation."""

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    def __aiter__(self) -> AsyncIterator[Envelope | Reset]:
        return self._apex.follow(self.id, user=self.user)

    async def answer(self) -> Answer:
        """Waits for the answer. Raises the error with which the run failed; `cancelled`."""
        return Answer.of(await self._apex._open.result(self.user, self.id), self.id, self.thread)  # pyright: ignore[reportPrivateUsage]

    async def cancel(self) -> None:
        """Tells it to stop."""
        await self._apex.cancel(self.id, user=self.user)

    async def approve(self, event: Envelope) -> None:
        """Approves the call that an `approval_requested` asks about."""
        await self._decide(event, "approve")

    async def deny(self, event: Envelope) -> None:
        """Denies the call that an `approval_requested` asks about."""
        await self._decide(event, "deny")

    async def _decide(self, event: Envelope, decision: Literal["approve", "deny"]) -> None:
        if event["type"] != "approval_requested":
            raise TypeError(f"{event['type']} asks for no decision")
        data = event["data"]
        await self._apex.decide(self.id, data["approval"], data["digest"], decision, user=self.user)


class Server:
    """Apex on a listener of its own; `async with` stops it at the end."""

    def __init__(self, native: _native.Serving) -> None:
        self._native = native

    def __repr__(self) -> str:
        return f"<Server {self.url}>"

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return self._native.host

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._native.port

    @property
    def url(self) -> str:
        """Where it is, without TLS."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def stop(self) -> None:
        """Takes nobody new, tells clients to come back elsewhere, and waits until they are gone."""
        await self._native.stop()

    async def ended(self) -> None:
        """Waits until it has ended."""
        await self._native.ended()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _page(page: dict[str, Any], kind: Callable[..., Any], *moments: str) -> Page[Any]:
    def item(told: dict[str, Any]) -> Any:
        return kind(**{**told, **{name: moment(told[name]) for name in moments}})

    return Page(tuple(item(told) for told in page["items"]), page.get("next"))
