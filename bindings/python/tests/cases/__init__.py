"""What every language that embeds Apex has to do, by the list that they share: what the cases use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from netra_apex import ApexError, Context, Envelope, Reset, Run

Case = Callable[[Path], Awaitable[None]]
cases: dict[str, Case] = {}

USAGE = "timestamp,model,input_tokens,output_tokens,cost_usd\n" + "".join(
    f"2026-03-0{day}T10:00:00Z,gpt-4o,{1000 * day},{100 * day},{0.0035 * day}\n" for day in range(1, 8)
)


def case(function: Case) -> Case:
    cases[function.__name__] = function
    return function


def shout(word: str) -> str:
    """Louder."""
    return word + "!"


async def hello_agent(text: str, context: Context) -> str:
    """Greets."""
    return await context.call(shout, word=text)


async def read(run: Run) -> list[Envelope]:
    return [event async for event in run if not isinstance(event, Reset)]


def kinds(events: list[Envelope]) -> list[str]:
    return [event["type"] for event in events]


async def refused(kind: type[ApexError], code: str, asked: Awaitable[object]) -> ApexError:
    with pytest.raises(kind) as caught:
        await asked
    assert caught.value.code == code
    return caught.value


def assert_whole(events: list[Envelope], end: str = "run_completed") -> None:
    critical = [event for event in events if event.get("seq")]
    assert [event.get("seq") for event in critical] == list(range(1, len(critical) + 1))
    assert critical[-1]["type"] == end


def answer_of(event: Envelope) -> str:
    assert event["type"] == "run_completed"
    return event["data"]["result"]["text"]
