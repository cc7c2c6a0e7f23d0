"""Processes: how they end, fork and share."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from netra_apex import Apex, ApexError, Context, UnavailableError, tool

ENDS = Path(__file__).with_name("ends.py")
WAYS = ["pending", "thread", "exit", "serving", "reading", "raises"]


def end(way: str) -> str | None:
    """How a process ends that way; `None` where it is as it should be."""
    done = subprocess.run([sys.executable, str(ENDS), way], capture_output=True, text=True, timeout=60)
    expected = {"exit": 3, "raises": 1}.get(way, 0)
    bad = "panicked" in done.stderr or "Fatal" in done.stderr or (way != "raises" and "Traceback" in done.stderr)
    if done.returncode != expected or bad or "began" not in done.stdout:
        return f"{way}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return None


def test_sixty_processes_end_with_work_under_way() -> None:
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(end, WAYS * 10))
    assert [told for told in ends if told] == []


async def hello(text: str) -> str:
    return text + "!"


def ask_in_child(queue: multiprocessing.Queue[str]) -> None:
    try:
        queue.put(Apex(agents=[hello]).run("child").text)
    except ApexError as error:
        queue.put(f"{error.code}: {error}")


def test_a_forked_child_is_told_and_a_spawned_one_works() -> None:
    assert Apex(agents=[hello]).run("parent").text == "parent!"
    ways = (
        (multiprocessing.get_context("fork"), "unavailable: this process was forked"),
        (multiprocessing.get_context("spawn"), "child!"),
    )
    for processes, expected in ways:
        queue = processes.Queue()
        child = processes.Process(target=ask_in_child, args=(queue,))
        child.start()
        assert queue.get(timeout=60).startswith(expected)
        child.join(60)
        assert child.exitcode == 0
    assert Apex(agents=[hello]).run("parent").text == "parent!"


def test_fork_before_the_first_use_works() -> None:
    script = (
        "import os, sys\nfrom netra_apex import Apex\n"
        "async def hello(text: str) -> str: return text + '!'\n"
        "child = os.fork()\n"
        "said = Apex(agents=[hello]).run('x').text\n"
        "assert said == 'x!'\n"
        "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-I", "-c", script], check=True, timeout=60)


def test_sub_interpreters_are_refused() -> None:
    script = (
        "import _xxsubinterpreters as subs\n"
        "import netra_apex._native\n"
        "one = subs.create()\n"
        "try:\n    subs.run_string(one, 'import netra_apex._native')\n"
        "except Exception as error:\n    print(error)\n"
    )
    if sys.version_info >= (3, 13):
        script = script.replace("_xxsubinterpreters", "_interpreters").replace("run_string(one,", "exec(one,")
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "ubinterpreter" in done.stdout, done


def test_several_loops_and_several_apex() -> None:
    said: dict[int, str] = {}

    def work(n: int) -> None:
        async def main() -> None:
            async with Apex(agents=[hello]) as one, Apex(agents=[hello]) as two:
                answers = await asyncio.gather(one.ask(f"{n}a"), two.ask(f"{n}b"))
                said[n] = " ".join(answer.text for answer in answers)

        asyncio.run(main())

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert said == {n: f"{n}a! {n}b!" for n in range(4)}


def test_a_loop_that_is_closed_early() -> None:
    async def slow(text: str) -> str:
        await asyncio.sleep(0 if text == "fast" else 60)
        return text

    apex = Apex(agents=[slow])

    async def begin() -> str:
        await apex.open()
        return (await apex.start("slow")).id

    run = asyncio.run(begin())

    async def again() -> None:
        state = "running"
        for _ in range(200):
            state = (await apex.state(run))["state"]
            if state not in ("queued", "running"):
                break
            await asyncio.sleep(0.05)
        assert state in ("failed", "completed")
        with pytest.raises(ApexError) as caught:
            await apex.ask("fast")
        assert "loop" in str(caught.value) and "closed" in str(caught.value)
        await apex.close()

    asyncio.run(again())


class Deaf(asyncio.SelectorEventLoop):
    """A loop that watches no sockets of others, as those of Windows."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> NoReturn:
        raise NotImplementedError


def test_a_loop_that_watches_no_sockets() -> None:
    def here(text: str) -> str:
        return text + "?"

    async def main() -> list[str]:
        async with Apex(agents=[hello]) as one, Apex(agents=[here]) as two:
            answers = await asyncio.gather(*(apex.ask("x") for apex in (one, two) for _ in range(8)))
            return [answer.text for answer in answers]

    for _ in range(3):
        loop = Deaf()
        try:
            assert loop.run_until_complete(main()) == ["x!"] * 8 + ["x?"] * 8
        finally:
            loop.close()


def test_a_function_that_was_quick_and_becomes_slow() -> None:
    @tool(timeout=0.2)
    def nap(seconds: float) -> str:
        time.sleep(seconds)
        return "slept"

    async def naps(text: str, context: Context) -> str:
        told = [await context.call(nap, seconds=0) for _ in range(5)]
        try:
            return await context.call(nap, seconds=float(text))
        except ApexError as error:
            return " ".join([*told, error.code])

    async def main() -> list[str]:
        async with Apex(agents=[naps], tools=[nap]) as apex:
            answers = await asyncio.gather(*(apex.ask("0.5", user=f"{n}") for n in range(8)))
            return [answer.text for answer in answers]

    assert asyncio.run(main()) == ["slept " * 5 + "deadline_exceeded"] * 8


def test_a_slow_reader_slows_nobody() -> None:
    async def busy(context: Context) -> str:
        for n in range(200):
            await context.think(f"{n}")
        return "done"

    async def main() -> None:
        async with Apex(agents=[busy]) as apex:
            run = await apex.start("go")
            events = aiter(run)
            await anext(events)
            began = time.monotonic()
            assert (await run.answer()).text == "done"
            assert time.monotonic() - began < 20
            assert len([event async for event in events]) == 203

    asyncio.run(main())


def test_many_callbacks_leak_nothing(tmp_path: Path) -> None:
    times = 100_000 if os.environ.get("APEX_FULL") == "1" else 500
    script = [sys.executable, str(Path(__file__).with_name("leaks.py")), str(times), str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60 + times // 40)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    before, after = seen[0], seen[-1]
    # The context variables of the last 4,096 messages are kept: an object and some bytes for each.
    runs = after["runs"] - before["runs"]
    most = {
        "heap": (256 << 10) + 256 * runs,
        "objects": 500 + runs,
        "threads": 4,
        "handles": 8,
        "resident": 64 << 20,
    }
    assert {what: seen for what, more in most.items() if after[what] - before[what] > more} == {}


def test_ctrl_c_ends_a_computation() -> None:
    script = (
        # What starts the tests may have told its children to ignore it.
        "import netra_apex, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "rows = b'2026-03-01T10:00:00Z,gpt-4o,1000,100\\n' * 3_000_000\n"
        "print('began', flush=True)\n"
        "try:\n    netra_apex.analyse(('a.csv', b'timestamp,model,input_tokens,output_tokens\\n' + rows))\n"
        "except KeyboardInterrupt:\n    sys.exit(9)\n"
    )
    import signal

    with subprocess.Popen([sys.executable, "-I", "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 9


def test_after_close_an_apex_says_so() -> None:
    async def main() -> None:
        apex = await Apex(agents=[hello]).open()
        await apex.close()
        with pytest.raises(UnavailableError):
            await apex.ask("x")

    asyncio.run(main())
