"""Functions and callable objects as agents and tools."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints, overload

from netra_apex._context import Context, ToolContext
from netra_apex._schema import rooted, schema_of, value_of
from netra_apex._values import Answer, Plan, Request, Step
from netra_apex.exceptions import ApexError

__all__ = ["AgentParts", "ToolParts", "agent", "agent_parts", "ended", "tool", "tool_parts"]

F = TypeVar("F", bound=Callable[..., Any])
Effect: TypeAlias = Literal["read", "idempotent", "once"]

AgentParts: TypeAlias = tuple[dict[str, Any], Callable[..., Any], bool]
ToolParts: TypeAlias = tuple[dict[str, Any], Callable[..., Any], bool, Any, "tuple[Callable[..., Any], bool] | None"]

_OPTIONS = "__apex_options__"
_NAME = "__apex_name__"

_NEVER_AWAITED = frozenset({bool, dict, float, int, list, str, tuple, type(None)})


@overload
def agent(function: F, /) -> F: ...
@overload
def agent(
    *,
    name: str | None = None,
    purpose: str | None = None,
    deadline: float | None = None,
    triggers: Sequence[str] = (),
) -> Callable[[F], F]: ...
def agent(function: Any = None, /, **options: Any) -> Any:
    """Says more of a function that is an agent than it says itself; the function stays as it is.

    Its name and the first line of its docstring are the agent's name and purpose. Its parameters say what it takes:
    `text` and `files` of the request, or all of it where one is hinted as `Request`; a `Context`; and the results of
    other agents, by their names. A `str` or an `Answer` that it returns ends the run, a `Plan` says which agents
    follow, and anything else is handed on. One that is `async` runs on the loop that opened the `Apex`, another one on
    a thread.
    `deadline` is in seconds. `triggers` are words and phrases by which a question is one for it to answer, where Apex's
    supervisor has no model to say who does.
    """
    return _marked(function, options)


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    effect: Effect = "once",
    needs_approval: bool | Callable[[dict[str, Any]], bool] = False,
    look_up: Callable[..., Any] | None = None,
) -> Callable[[F], F]: ...
def tool(function: Any = None, /, **options: Any) -> Any:
    """Says more of a function that is a tool than it says itself; the function stays as it is.

    Its name and the first line of its docstring are the tool's name and description, its parameters the arguments; a
    `ToolContext` is none of them. `timeout` is in seconds. `effect` says what making a call twice does: with `read` and
    `idempotent` it may be repeated, with `once` it never is. `needs_approval` says whether a person has to approve a
    call, or is a function of its arguments that does. `look_up` says what came of a call whose node was lost: it takes
    what the tool takes, and returns `{"done": result}`, `"not_done"` or `"unknown"`.
    """
    return _marked(function, options)


def _marked(function: Any, options: dict[str, Any]) -> Any:
    def mark(function: Any) -> Any:
        setattr(function, _OPTIONS, options)
        setattr(function, _NAME, options.get("name") or _name_of(function))
        return function

    return mark if function is None else mark(function)


def agent_parts(function: Callable[..., Any]) -> AgentParts:
    """What the native half is told of an agent."""
    takes = _Takes(function, Context)
    options: dict[str, Any] = getattr(function, _OPTIONS, {})
    deadline = options.get("deadline")
    spec = {
        "name": options.get("name") or _name_of(function),
        "purpose": options.get("purpose") or _sentence_of(function),
        "input": takes.schema(),
        "output": _output(takes.returns),
        "deadline_ms": None if deadline is None else round(deadline * 1_000),
        "triggers": list(options.get("triggers", ())),
    }
    if takes.is_async:

        async def work(value: dict[str, Any], work: Any) -> Any:
            return _made(await function(**takes.arguments(value, Context(work))))

        return spec, work, True

    def work_here(value: dict[str, Any], work: Any) -> Any:
        return _made(ended(function(**takes.arguments(value, Context(work)))))

    return spec, work_here, False


def tool_parts(function: Callable[..., Any]) -> ToolParts:
    """What the native half is told of a tool."""
    takes = _Takes(function, ToolContext)
    options: dict[str, Any] = getattr(function, _OPTIONS, {})
    timeout = options.get("timeout")
    spec = {
        "name": options.get("name") or _name_of(function),
        "description": options.get("description") or _sentence_of(function),
        "arguments": takes.schema(closed=True),
        "timeout_ms": None if timeout is None else round(timeout * 1_000),
        "effect": options.get("effect", "once"),
    }
    look: Any = options.get("look_up")
    look_up = None
    if look is not None:
        looks = _Takes(look, ToolContext)
        look_up = (_tool_work(look, looks), looks.is_async)
    return spec, _tool_work(function, takes), takes.is_async, _approval(options.get("needs_approval", False)), look_up


def _approval(rule: bool | Callable[[dict[str, Any]], bool]) -> Any:
    if isinstance(rule, bool):
        return rule
    if inspect.iscoroutinefunction(rule):
        raise TypeError("needs_approval answers at once: it cannot be asynchronous")

    def says(value: dict[str, Any], _: object) -> bool:
        return bool(rule(value))

    return says


def _tool_work(function: Callable[..., Any], takes: _Takes) -> Callable[..., Any]:
    def arguments(value: dict[str, Any], work: Any) -> dict[str, Any]:
        try:
            return takes.arguments(value, ToolContext(work))
        except (TypeError, ValueError) as error:
            raise ApexError("bad_arguments", f"the arguments do not fit: {error}") from error

    if takes.is_async:

        async def work(value: dict[str, Any], work: Any) -> Any:
            return await function(**arguments(value, work))

        return work

    def work_here(value: dict[str, Any], work: Any) -> Any:
        return ended(function(**arguments(value, work)))

    return work_here


@dataclass(frozen=True)
class _Parameter:
    hint: Any
    default: Any

    @property
    def is_needed(self) -> bool:
        return self.default is inspect.Parameter.empty


class _Takes:
    """What a function takes and returns, by its hints."""

    def __init__(self, function: Callable[..., Any], context: type) -> None:
        called: Any = function if inspect.isroutine(function) else type(function).__call__
        self.is_async = inspect.iscoroutinefunction(called)
        try:
            hints = get_type_hints(called, include_extras=True)
        except NameError as error:
            raise TypeError(f"a hint of {_name_of(function)} cannot be read: {error}") from error
        self.returns: Any = hints.get("return", Any)
        self._context: str | None = None
        self._request: str | None = None
        self._open = False
        self._parameters: dict[str, _Parameter] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            hint = hints.get(name, Any)
            if parameter.kind is parameter.VAR_KEYWORD:
                self._open = True
            elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                raise TypeError(f"{_name_of(function)} takes {name} by its place; arguments come by name")
            elif hint is context or (hint is Any and name == "context"):
                self._context = name
            elif hint is Request:
                self._request = name
            else:
                self._parameters[name] = _Parameter(hint, parameter.default)

    def schema(self, *, closed: bool = False) -> Any:
        """The JSON Schema of what it takes; a closed one refuses anything else."""
        fields = {name: schema_of(parameter.hint) for name, parameter in self._parameters.items()}
        needed = [name for name, parameter in self._parameters.items() if parameter.is_needed]
        schema: dict[str, Any] = {"type": "object", "properties": fields, "required": needed}
        if closed and not self._open:
            schema["additionalProperties"] = False
        return rooted(schema)

    def arguments(self, value: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """What it is called with."""
        arguments = {
            name: value_of(parameter.hint, value[name]) for name, parameter in self._parameters.items() if name in value
        }
        if self._open:
            arguments.update({name: one for name, one in value.items() if name not in arguments})
        if self._context is not None:
            arguments[self._context] = context
        if self._request is not None:
            arguments[self._request] = Request(value["text"], tuple(value["files"]))
        return arguments


def _output(hint: Any) -> Any:
    if hint is str:
        return "text"
    if hint is Answer:
        return "result"
    if hint is Plan:
        return "plan"
    if hint in (Any, object) or _mentions(hint, (str, Answer, Plan)):
        return "any"
    return {"schema": rooted(schema_of(hint))}


def _mentions(hint: Any, kinds: tuple[type, ...]) -> bool:
    """Whether it is one type or another, and one of these kinds means something else than a value."""
    return get_origin(hint) in (Union, UnionType) and any(one in kinds for one in get_args(hint))


def _made(value: Any) -> Any:
    """What an agent returned, as the native half takes it."""
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, Answer):
        artifacts = [vars(artifact) for artifact in value.artifacts]
        return {"result": {"status": value.status, "text": value.text, "artifacts": artifacts}}
    if isinstance(value, Plan):
        steps = [Step(step) if isinstance(step, str) else step for step in value.steps]
        told = [{**vars(step), "needs": list(step.needs)} for step in steps]
        return {"plan": {"steps": told, "question": value.question}}
    return {"value": value}


def ended(value: Any) -> Any:
    """What a function that is not asynchronous returned."""
    if type(value) not in _NEVER_AWAITED and inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError("it returned something to be awaited; write `async def`")
    return value


def _name_of(function: Any) -> str:
    name = getattr(function, _NAME, None) or getattr(function, "__name__", None)
    if name is None:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(function).__name__).lower()
    return name


def _sentence_of(function: Any) -> str:
    told = inspect.getdoc(function if inspect.isroutine(function) else cast(Any, type(function))) or ""
    first = " ".join(told.split("\n\n")[0].split())
    return first or _name_of(function).replace("_", " ").capitalize() + "."
