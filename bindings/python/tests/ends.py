"""A process that ends with work under way, in the way that its argument says."""

import asyncio
import sys
import time

from netra_apex import Apex, Run


async def slow() -> str:
    await asyncio.sleep(60)
    return "never"


def on_a_thread() -> str:
    time.sleep(0.4)
    return "late"


async def read(run: Run) -> None:
    async for _ in run:
        pass


async def main(way: str) -> None:
    apex = await Apex(agents=[on_a_thread if way == "thread" else slow]).open()
    runs = [await apex.start(f"{n}") for n in range(5)]
    tasks: list[object] = []
    if way == "serving":
        tasks.append(await apex.serve("127.0.0.1:0"))
    if way == "reading":
        tasks.extend(asyncio.create_task(read(run)) for run in runs)
    await asyncio.sleep(0.05)
    print("began", flush=True)
    if way == "exit":
        sys.exit(3)
    if way == "raises":
        raise RuntimeError("on purpose")


asyncio.run(main(sys.argv[1]))
