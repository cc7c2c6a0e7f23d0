"""What crossing the border costs: calls, callbacks and events, beside what asyncio itself takes to be woken."""

import asyncio
import json
import os
import socket
import threading
import time

from netra_apex import Apex, Context

CALLS = 200
ROUNDS = 10_000


async def round_trips(as_task: bool) -> float:
    """What it costs that another thread wakes the loop and is answered, in µs of CPU."""
    event_loop = asyncio.get_running_loop()
    bell, rung = socket.socketpair()
    answers, answered = socket.socketpair()
    tasks: set[asyncio.Task[None]] = set()
    done = event_loop.create_future()

    async def answer() -> None:
        os.write(answers.fileno(), b"!")

    def hear() -> None:
        if os.read(rung.fileno(), 1) == b".":
            done.set_result(None)
        elif as_task:
            tasks.add(task := event_loop.create_task(answer()))
            task.add_done_callback(tasks.discard)
        else:
            os.write(answers.fileno(), b"!")

    def ask() -> None:
        for _ in range(ROUNDS):
            os.write(bell.fileno(), b"!")
            os.read(answered.fileno(), 1)
        os.write(bell.fileno(), b".")

    event_loop.add_reader(rung, hear)
    began = time.process_time()
    threading.Thread(target=ask).start()
    await done
    took = time.process_time() - began
    event_loop.remove_reader(rung)
    for end in (bell, rung, answers, answered):
        end.close()
    return took * 1e6 / ROUNDS


async def threadsafe_calls() -> float:
    """The same by `call_soon_threadsafe`."""
    event_loop = asyncio.get_running_loop()
    done, answered = event_loop.create_future(), threading.Semaphore(0)

    def ask() -> None:
        for _ in range(ROUNDS):
            event_loop.call_soon_threadsafe(answered.release)
            answered.acquire()
        event_loop.call_soon_threadsafe(done.set_result, None)

    began = time.process_time()
    threading.Thread(target=ask).start()
    await done
    return (time.process_time() - began) * 1e6 / ROUNDS


async def main() -> None:
    told = {
        "asyncio: a thread's call_soon_threadsafe and back: µs": await threadsafe_calls(),
        "asyncio: a thread's byte to the loop and back: µs": await round_trips(False),
        "asyncio: the same, and a task of the loop's: µs": await round_trips(True),
    }

    def nothing() -> None:
        return None

    async def calls(context: Context) -> str:
        for _ in range(CALLS):
            await context.call(nothing)
        return "done"

    async def thinks(context: Context) -> str:
        for n in range(250):
            await context.think(str(n))
        return "done"

    async with Apex(agents=[calls, thinks], tools=[nothing]) as apex:
        user = await apex.user("ada")
        began = time.perf_counter()
        for _ in range(100_000):
            user.__hash__()
        told["a call of the smallest native method: µs"] = (time.perf_counter() - began) * 10

        began = time.process_time()
        for _ in range(2_000):
            await apex.user("ada")
        told["an awaited call and back: µs of CPU"] = (time.process_time() - began) * 1e6 / 2_000

        await apex.ask("warm", user=user)
        began = time.process_time()
        for _ in range(5):
            await apex.ask("go", user=user)
        told["a tool call, journaled, with its callback: µs of CPU"] = (time.process_time() - began) * 1e6 / (5 * CALLS)

    async with Apex(agents=[thinks]) as apex:
        run = await apex.start("go")
        await run.answer()
        events = 0
        began = time.perf_counter()
        for _ in range(40):
            async for _ in run:
                events += 1
        told["events iterated a second"] = events / (time.perf_counter() - began)
    print(json.dumps(told))


asyncio.run(main())
