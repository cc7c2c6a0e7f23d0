"""One contender: so many graphs of five agents, each of which adds one to what the one before it gave."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

NAME, GRAPHS = sys.argv[1], int(sys.argv[2])
Graph = Callable[[], Awaitable[int]]


async def bare() -> tuple[Graph, Any]:
    async def add(n: int) -> int:
        return n + 1

    async def graph() -> int:
        n = 0
        for _ in range(5):
            n = await asyncio.create_task(add(n))
        return n

    return graph, None


async def apex(asynchronous: bool) -> tuple[Graph, Any]:
    from netra_apex import Apex, Plan, Step

    def first() -> int:
        return 1

    def second(first: int) -> int:
        return first + 1

    def third(second: int) -> int:
        return second + 1

    def fourth(third: int) -> int:
        return third + 1

    def fifth(fourth: int) -> str:
        return str(fourth + 1)

    agents: list[Callable[..., Any]] = [first, second, third, fourth, fifth]

    def later(function: Callable[..., Any]) -> Callable[..., Any]:
        from functools import wraps

        @wraps(function)
        async def work(**taken: Any) -> Any:
            return function(**taken)

        return work

    names = [agent.__name__ for agent in agents]
    steps = [Step(name, needs=names[at - 1 : at] if at else []) for at, name in enumerate(names)]

    def begin() -> Plan:
        return Plan(steps)

    if asynchronous:
        agents = [later(agent) for agent in agents]
    opened = await Apex(agents=[begin, *agents]).open()
    user = await opened.user("ada")

    async def graph() -> int:
        return int((await opened.ask("go", user=user)).text)

    return graph, opened


async def langgraph() -> tuple[Graph, Any]:
    from langgraph.graph import END, START, StateGraph
    from typing_extensions import TypedDict

    class State(TypedDict):
        n: int

    def add(state: State) -> dict[str, int]:
        return {"n": state["n"] + 1}

    builder: Any = StateGraph(State)
    names = [f"a{n}" for n in range(5)]
    for name in names:
        builder.add_node(name, add)
    for start, end in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(start, end)
    compiled = builder.compile()

    async def graph() -> int:
        return (await compiled.ainvoke({"n": 0}))["n"]

    return graph, None


async def pydantic_ai() -> tuple[Graph, Any]:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart
    from pydantic_ai.models.function import FunctionModel

    def answer(messages: list[Any], _: Any) -> ModelResponse:
        return ModelResponse(parts=[TextPart(str(int(messages[-1].parts[-1].content) + 1))])

    agents: list[Any] = [Agent(FunctionModel(answer)) for _ in range(5)]

    async def graph() -> int:
        n = 0
        for agent in agents:
            n = int((await agent.run(str(n))).output)
        return n

    return graph, None


async def main() -> None:
    makes: dict[str, Callable[[], Awaitable[tuple[Graph, Any]]]] = {
        "asyncio": bare,
        "apex-sync": lambda: apex(False),
        "apex-async": lambda: apex(True),
        "langgraph": langgraph,
        "pydantic-ai": pydantic_ai,
    }
    graph, opened = await makes[NAME]()
    for _ in range(20):
        assert await graph() == 5
    began = time.process_time()
    for _ in range(GRAPHS):
        await graph()
    print(json.dumps({"cpu_ms": (time.process_time() - began) * 1_000 / GRAPHS}))
    if opened is not None:
        await opened.close()


asyncio.run(main())
