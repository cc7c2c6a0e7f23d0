"""What crossing the border costs: calls, callbacks and events."""

import asyncio
import json
import time

from netra_apex import Apex, Context

CALLS = 200


async def main() -> None:
    told: dict[str, float] = {}

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
