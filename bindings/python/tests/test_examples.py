"""The examples, the guide's code, and what pydantic adds, against the installed package."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import websockets
from pydantic import BaseModel, Field

import netra_apex
from netra_apex import Apex, ApexError, Context

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "python"


def get(url: str, method: str = "GET") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=20) as answer:
        return answer.read()


def test_the_fastapi_service_chats() -> None:
    port = 14_000 + os.getpid() % 15_000
    environ = {**os.environ, "PORT": str(port)}
    with subprocess.Popen([sys.executable, EXAMPLES / "service.py"], env=environ, stderr=subprocess.DEVNULL) as child:
        try:
            asyncio.run(asyncio.wait_for(chat(f"127.0.0.1:{port}"), 60))
        finally:
            child.terminate()
            assert child.wait(30) in (0, -15)


async def chat(place: str) -> None:
    for _ in range(200):
        try:
            page = await asyncio.to_thread(get, f"http://{place}/")
            break
        except OSError:
            await asyncio.sleep(0.1)
    else:
        pytest.fail("the service does not answer")
    assert b"Thermometer" in page
    assert json.loads(await asyncio.to_thread(get, f"http://{place}/apex/health/live"))["status"] == "pass"
    ticket = json.loads(await asyncio.to_thread(get, f"http://{place}/ticket", "POST"))["ticket"]
    url = f"ws://{place}/apex/ws?ticket={ticket}"
    async with websockets.connect(url, origin=f"http://{place}", subprotocols=["apex.v1"]) as socket:  # pyright: ignore[reportArgumentType]
        assert socket.subprotocol == "apex.v1"
        ask = {"frame": "message", "id": "1", "request_id": str(uuid4()), "text": "What is 98.6 ?"}
        await socket.send(json.dumps(ask))
        said: dict[str, Any] = {}
        agents: list[str] = []
        while said.get("type") != "run_completed":
            said = json.loads(await socket.recv())
            if said.get("type") == "agent_started":
                agents.append(said["data"]["agent"])
        assert said["data"]["result"]["text"] == "98.6 °F is **37.0 °C**."
        assert agents == ["thermometer"]
    # A used ticket of a page's is refused by a close code, which a page can read.
    async with websockets.connect(url, origin=f"http://{place}") as socket:  # pyright: ignore[reportArgumentType]
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 4401


def test_the_report_of_ten_lines(tmp_path: Path) -> None:
    usage = tmp_path / "usage.csv"
    rows = [f"2026-03-01T10:00:0{n}Z,gpt-4o,1000,100,0.0035" for n in range(5)]
    usage.write_text("\n".join(["timestamp,model,input_tokens,output_tokens,cost_usd", *rows]))
    script = EXAMPLES / "report.py"
    done = subprocess.run(
        [sys.executable, script, usage], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert "open apex-report/report.html" in done.stdout
    assert (tmp_path / "apex-report" / "report.html").exists()
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith('"""')]
    assert len(lines) <= 10


def test_hello_has_seven_lines(tmp_path: Path) -> None:
    hello = (EXAMPLES / "hello.py").read_text()
    lines = [line for line in hello.splitlines() if line and not line.startswith('"""')]
    assert len(lines) <= 7
    done = subprocess.run(
        [sys.executable, EXAMPLES / "hello.py"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "hello!\n"


@pytest.mark.parametrize("page", ["docs/guide/python.md", "bindings/python/README.md"])
def test_the_code_of_the_pages_works(page: str, tmp_path: Path) -> None:
    blocks: list[str] = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        if "netra_apex.client" in block:
            continue  # the client's guide has it, and a test of its own
        script = tmp_path / f"block{number}.py"
        script.write_text(block)
        (tmp_path / "usage.csv").write_text(
            "timestamp,model,input_tokens,output_tokens\n2026-03-01T10:00:00Z,gpt-4o,1000,100\n"
        )
        done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{block}\n{done.stderr}"


class Part(BaseModel):
    name: str
    count: int = Field(ge=1)


class Order(BaseModel):
    """What somebody wants."""

    parts: list[Part]


def test_models_of_pydantic() -> None:
    def price(order: Order, discount: float | None = None) -> Order:
        assert discount == 0.5
        return Order(parts=[Part(name=part.name.upper(), count=part.count * 2) for part in order.parts])

    async def asking(text: str, context: Context) -> str:
        count = int(text)
        made = await context.call(price, order={"parts": [{"name": "a", "count": count}]}, discount=0.5)
        return json.dumps(made)

    async def main() -> None:
        async with Apex(agents=[asking], tools=[price]) as apex:
            assert json.loads((await apex.ask("3")).text) == {"parts": [{"name": "A", "count": 6}]}
            with pytest.raises(ApexError) as caught:
                await apex.ask("0")
            assert caught.value.code == "bad_arguments"

    asyncio.run(main())


def test_the_stubs_are_what_is_there(tmp_path: Path) -> None:
    check = [sys.executable, "-I", "-m", "mypy.stubtest", "netra_apex._native"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert (Path(netra_apex.__file__).parent / "py.typed").exists()


def test_everything_that_is_named_is_there() -> None:
    for name in netra_apex.__all__:
        assert getattr(netra_apex, name) is not None
    with pytest.raises(AttributeError):
        netra_apex.nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
