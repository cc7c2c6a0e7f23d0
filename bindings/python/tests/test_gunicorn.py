"""Apex in the forked workers of gunicorn."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "gunicorn", "web:app", "-k", "uvicorn.workers.UvicornWorker", "-w", "2"]
HERE = Path(__file__).parent
LONGEST = 60


@contextmanager
def gunicorn(*options: str, **environ: str) -> Generator[subprocess.Popen[str], None, None]:
    """Two workers; whatever happens, they are gone at the end."""
    command = [*COMMAND, "-b", "127.0.0.1:0", "--graceful-timeout", "10", *options]
    with subprocess.Popen(
        command, cwd=HERE, env={**os.environ, **environ}, stderr=subprocess.PIPE, text=True
    ) as master:
        late = threading.Timer(LONGEST, master.kill)
        late.daemon = True
        late.start()
        try:
            yield master
        finally:
            master.terminate()


def place(master: subprocess.Popen[str]) -> str:
    assert master.stderr
    for line in master.stderr:
        listening = re.search(r"Listening at: (http://\S+)", line)
        if listening:
            return listening[1]
    return pytest.fail("gunicorn does not listen")


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=LONGEST) as answer:
        return json.load(answer)


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["each worker loads", "the master loads"])
def test_workers_that_open_their_own_work_and_end(options: list[str]) -> None:
    with gunicorn(*options) as master:
        url = place(master)
        said: set[str] = set()
        began = time.monotonic()
        while len(said) < 2 and time.monotonic() - began < LONGEST:
            said.add(ask(url))
        assert len(said) == 2
        assert all(re.fullmatch(r"hello from \d+", one) for one in said)
        assert f"hello from {master.pid}" not in said
        master.terminate()
        _, told = master.communicate(timeout=30)
        assert master.returncode == 0 and "Traceback" not in told, told


def test_workers_of_a_master_that_has_used_apex_are_refused() -> None:
    with gunicorn("--preload", USED="1") as master:
        _, told = master.communicate(timeout=LONGEST)
        assert master.returncode not in (0, -9), told
        assert "this process was forked from one that has used Apex" in told
        assert "open Apex after forking" in told
