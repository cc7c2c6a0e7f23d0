"""A web service with chat: a tool and an agent of its own, and a page to talk to them.

    pip install netra-apex fastapi uvicorn
    python service.py

Then open http://127.0.0.1:8000.
"""

import os
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from netra_apex import Apex, Context

PORT = int(os.environ.get("PORT", "8000"))


def celsius(fahrenheit: float) -> float:
    """Turns degrees Fahrenheit into degrees Celsius."""
    return round((fahrenheit - 32) / 1.8, 1)


async def thermometer(text: str, context: Context) -> str:
    """Reads a temperature and says it in Celsius."""
    await context.think("Looking for a number.")
    numbers = [word for word in text.split() if word.strip("-").replace(".", "", 1).isdigit()]
    if not numbers:
        return "Tell me a temperature in Fahrenheit, such as `98.6`."
    return f"{numbers[0]} °F is **{await context.call(celsius, fahrenheit=float(numbers[0]))} °C**."


apex = Apex(
    {
        "environment": "development",
        "database": {"url": "sqlite::memory:"},
        "server": {"origins": [f"http://127.0.0.1:{PORT}"]},
    },
    agents=[thermometer],
    tools=[celsius],
)
app = FastAPI(lifespan=apex.lifespan)
app.mount("/apex", apex.asgi())


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/ticket")
async def ticket() -> dict[str, str]:
    """What lets the page in, once. A real service asks here who is logged in."""
    return {"ticket": (await apex.ticket("visitor")).ticket}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORT)
