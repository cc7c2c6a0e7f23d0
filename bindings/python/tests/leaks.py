"""Makes many callbacks and prints what is there after each of five equal parts of them: `leaks.py TIMES FOLDER`."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

from netra_apex import Apex, ApexError, Context

PARTS = 5
CALLS_OF_A_RUN = 50
PROCESS = Path("/proc/self")


def on_a_thread(n: int) -> int:
    return n


async def on_the_loop(n: int) -> int:
    if n % 10 == 0:
        raise ApexError("tool_failed", "every tenth")
    return n


async def calling(context: Context) -> str:
    for n in range(CALLS_OF_A_RUN // 2):
        await context.call(on_a_thread, n=n)
        try:
            await context.call(on_the_loop, n=n)
        except ApexError:
            context.progress(n, CALLS_OF_A_RUN)
    return "done"


def now(runs: int) -> dict[str, int]:
    gc.collect()
    return {
        "runs": runs,
        "heap": tracemalloc.get_traced_memory()[0],
        "objects": len(gc.get_objects()),
        "threads": len(list((PROCESS / "task").iterdir())),
        "handles": len(list((PROCESS / "fd").iterdir())),
        "resident": int((PROCESS / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
    }


async def main(times: int, folder: Path) -> None:
    config: dict[str, Any] = {"environment": "development", "database": {"url": f"sqlite:{folder / 'apex.db'}"}}
    runs = times // CALLS_OF_A_RUN // PARTS
    seen: list[dict[str, int]] = []
    async with Apex(config, agents=[calling], tools=[on_a_thread, on_the_loop]) as apex:
        for part in range(1, PARTS + 1):
            for _ in range(runs):
                await apex.ask("go")
            seen.append(now(part * runs))
    print(json.dumps(seen))


tracemalloc.start()
asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
