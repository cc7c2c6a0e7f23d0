"""What needs no host: waiting times, positions, packaging."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import netra_apex
from netra_apex import _native
from netra_apex.client import ApexError, Cursor, connect
from netra_apex.client._closing import backoff, on_close  # pyright: ignore[reportPrivateUsage]

ROOT = Path(__file__).resolve().parents[1]


def test_pauses_double_up_to_a_limit() -> None:
    assert [backoff(failures, 1.0) for failures in (1, 2, 3, 7, 100)] == [0.5, 1, 2, 30, 30]
    assert backoff(3, 0.5) == 1.0


def test_what_a_close_code_asks_depends_on_the_welcome() -> None:
    assert on_close(1006, False, "query") == "next_way"
    assert on_close(1006, True, "query") == "resume"
    assert on_close(4401, False, "query") == "new_ticket"
    assert on_close(4504, False, "query") == "next_way"
    assert on_close(4504, False, "hello") == "resume"
    assert on_close(4499, True, "hello") == "stop"
    assert on_close(4599, True, "hello") == "resume"


def test_a_position_applies_each_number_once_and_in_order() -> None:
    cursor = Cursor()
    applied: list[int] = []
    for seq in (1, 2, 2, 5, 1, 3, 4):
        if cursor.judge("e", seq) == "apply":
            cursor.moved("e", seq)
            applied.append(seq)
    assert applied == [1, 2, 3, 4]
    assert cursor.judge("other", 5) == "gap"
    assert cursor.judge("e", None) == "apply"
    assert cursor.position() == {"epoch": "e", "after": 4}


def test_an_address_or_credentials_that_are_none_are_refused_at_once() -> None:
    with pytest.raises(ApexError, match="no address"):
        connect("chat.example.com", token="t")
    with pytest.raises(ApexError, match="needs `ticket` or `token`"):
        connect("https://chat.example.com")


def test_who_cannot_connect_can_stop_waiting() -> None:
    async def run() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(connect("http://127.0.0.1:9", token="t").__aenter__(), 0.2)

    asyncio.run(run())


def test_the_client_needs_nothing_native(tmp_path: Path) -> None:
    script = (
        "import netra_apex.client, sys; print('netra_apex._native' in sys.modules, netra_apex.client.connect.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "connect"]


def test_the_package_is_whole_and_of_one_version() -> None:
    crate = re.search(
        r'\[workspace\.package\][^\[]*?^version = "(.*?)"', (ROOT / "../../Cargo.toml").read_text(), re.M | re.S
    )
    assert crate
    assert version("netra-apex") == crate[1] == _native.__version__
    installed = Path(netra_apex.__file__).parent
    assert "site-packages" in str(installed)
    assert all((installed / name).exists() for name in ("py.typed", "_native.pyi", "client/__init__.py"))
