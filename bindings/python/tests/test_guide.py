"""The guide's code for this client, as it is written."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from host import Host, Login

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "clients.md"


def test_the_guide_shows_what_works(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    blocks: list[str] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, Any] = {}
    exec(f"async def shown(base, token):\n{textwrap.indent(blocks[0], '    ')}", names)
    shown: Callable[[str, str], Awaitable[None]] = names["shown"]
    asyncio.run(asyncio.wait_for(shown(host.url, Login(host.url, "guide").token), 120))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "supervisor"
    assert len(said) > 3
