"""What agents and tools of the host's may touch while they work."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from netra_apex._values import Artifact, File, ModelAnswer, Note, Plan, Step

if TYPE_CHECKING:
    from netra_apex._native import AgentWork, ToolWork, User

__all__ = ["Context", "ToolContext"]


W = TypeVar("W", "AgentWork", "ToolWork")


class _Work(Generic[W]):
    """What a step of an agent and a call of a tool have in common."""

    __slots__ = ("_work",)

    def __init__(self, work: W) -> None:
        self._work = work

    @property
    def user(self) -> User:
        """In whose name the work is done."""
        return self._work.user

    @property
    def run(self) -> str:
        """The run."""
        return self._work.run

    @property
    def cancelled(self) -> bool:
        """Whether the work is to stop. An asynchronous function is cancelled anyway; one on a thread has to look."""
        return self._work.cancelled

    def progress(self, done: int, total: int | None = None, unit: str = "steps") -> None:
        """Says how far the work is; shown at most ten times a second, never recorded."""
        self._work.progress(done, total, unit)


class Context(_Work["AgentWork"]):
    """What an agent may touch while it works on one step, in the name of the run's owner and of nobody else.

    Everything that has an effect or an answer from outside goes through it and is journaled in the order in which the
    agent asks. An agent that is run again after a crash gets the same answers, and no completed call is made twice.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Context {self.run} {self.step}>"

    @property
    def thread(self) -> str:
        """The conversation."""
        return self._work.thread

    @property
    def step(self) -> str:
        """The step, such as `s1`."""
        return self._work.step

    async def think(self, note: str) -> None:
        """Tells the user a thought or what comes next; on record when this returns."""
        await self._work.think(note)

    async def degraded(self, note: str) -> None:
        """Says what cannot be done in full, and why; the run's result tells the user."""
        await self._work.degraded(note)

    async def call(
        self, tool: str | Callable[..., Any], arguments: Mapping[str, Any] | None = None, /, **more: Any
    ) -> Any:
        """Calls a tool, by its name or by its function, and waits for its result.

        Raises what the tool raised, as `ApexError`: `tool_failed`, `bad_arguments`, `deadline_exceeded`, `denied`.
        """
        name = tool if isinstance(tool, str) else getattr(tool, "__apex_name__", getattr(tool, "__name__", str(tool)))
        return await self._work.call(name, {**(arguments or {}), **more})

    async def now(self) -> datetime.datetime:
        """The time in UTC, the same when the agent is run again."""
        millis = await self._work.now()
        return datetime.datetime.fromtimestamp(millis / 1_000, datetime.timezone.utc)

    async def random(self) -> int:
        """A random number of 64 bits, the same when the agent is run again."""
        return await self._work.random()

    async def model(
        self,
        prompt: str | None = None,
        *,
        system: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        show: bool = False,
        **options: Any,
    ) -> ModelAnswer:
        """Asks a model; with `show` the user sees the answer as it comes.

        `options` are those of a request: `tools`, `tool_choice`, `output`, `effort`, `max_output_tokens`, `temperature`
        and `cache`. Raises `ApexError`: `unavailable` where no model answers, `budget_exhausted`.
        """
        said = [*(messages or ())]
        if prompt is not None:
            said.append({"role": "user", "parts": [{"text": prompt}]})
        answer = await self._work.ask({"system": system, "messages": said, **options}, show)
        finish = answer["finish"]
        return ModelAnswer(
            text=answer["text"],
            provider=answer["provider"],
            model=answer["model"],
            finish=finish if isinstance(finish, str) else next(iter(finish.values())),
            parts=answer["parts"],
            usage=answer["usage"],
        )

    def plan(self, goal: str, *, without: Sequence[str] = ()) -> Plan | None:
        """The steps that lead to this agent's result, from what the agents take; `None` where there are none."""
        plan = self._work.plan(goal, list(without))
        return None if plan is None else Plan(tuple(Step(**step) for step in plan["steps"]))


class ToolContext(_Work["ToolWork"]):
    """What a tool may touch while it works on one call, in the name of the run's owner and of nobody else."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<ToolContext {self.run} {self.call}>"

    @property
    def call(self) -> str:
        """The call, such as `c1`."""
        return self._work.call

    @property
    def idempotency_key(self) -> str:
        """The same when this call is made again after a crash; hand it to whatever makes a write happen once."""
        return self._work.idempotency_key

    def summarise(self, sentence: str) -> None:
        """Says in a sentence what came of the call; users see it. The last one counts."""
        self._work.summarise(sentence)

    async def file(self, file: str) -> File:
        """What is known of one of the user's files."""
        return File.of(await self._work.file(file))

    async def read_file(self, file: str, *, most: int = 64 << 20) -> bytes:
        """The content of one of the user's files, up to `most` bytes."""
        return await self._work.read_file(file, most)

    async def put_artifact(self, name: str, content: bytes | str, media_type: str = "text/plain") -> Artifact:
        """Keeps a result of the run's; one of the same name is replaced."""
        content = content.encode() if isinstance(content, str) else content
        return Artifact(**await self._work.put_artifact(name, media_type, content))

    async def artifact(self, artifact: str) -> bytes:
        """The content of one of the user's artifacts."""
        return await self._work.artifact(artifact)

    async def remember(self, name: str, text: str) -> None:
        """Keeps a note about the user under a name; one of the same name is replaced."""
        await self._work.remember(name, text)

    async def recall(self) -> list[Note]:
        """The notes about the user, by name."""
        return [Note.of(told) for told in await self._work.recall()]

    async def forget(self, name: str) -> None:
        """Drops a note about the user. Raises `ApexError`: `not_found`."""
        await self._work.forget(name)
