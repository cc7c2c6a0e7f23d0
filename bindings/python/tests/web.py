"""A service for the workers of gunicorn. With `USED=1` Apex is used where this is loaded."""

import os

from fastapi import FastAPI

from netra_apex import Apex


async def worker(text: str) -> str:
    return f"{text} from {os.getpid()}"


apex = Apex(agents=[worker])
app = FastAPI(lifespan=apex.lifespan)

if os.environ.get("USED"):
    Apex(agents=[worker]).run("hello")


@app.get("/")
async def hello() -> str:
    return (await apex.ask("hello")).text
