"""Processes: how they end, fork and share."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netra_apex import Apex, ApexError, Context, UnavailableError

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
            if state != "running":
                break
            await asyncio.sleep(0.05)
        assert state in ("failed", "completed")
        with pytest.raises(ApexError) as caught:
            await apex.ask("fast")
        assert "loop" in str(caught.value) and "closed" in str(caught.value)
        await apex.close()

    asyncio.run(again())


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


def test_many_callbacks_leak_nothing() -> None:
    times = 100_000 if os.environ.get("APEX_FULL") else 4_000

    def small(n: int) -> int:
        return n

    async def busy(text: str, context: Context) -> str:
        for n in range(int(text)):
            await context.call(small, n=n)
        return text

    async def main() -> tuple[list[int], list[int]]:
        counts: list[int] = []
        threads: list[int] = []
        config = {"environment": "development", "database": {"url": "sqlite::memory:"}}
        async with Apex(config, agents=[busy], tools=[small]) as apex:
            for _ in range(4):
                for _ in range(times // 400):
                    await apex.ask("100")
                gc.collect()
                counts.append(len(gc.get_objects()))
                threads.append(len(list(Path("/proc/self/task").iterdir())))
        return counts, threads

    counts, threads = asyncio.run(main())
    assert counts[-1] - counts[1] < 500, counts
    assert threads[-1] <= threads[1] + 4, threads


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
