"""Counts the instructions of the hot paths under callgrind and compares them with `benches/gate.json`.

Each row names a benchmark, the arguments that choose one path of it, and a count of operations, which is passed as its
last argument. It is run with that count and twice of it; the difference is the cost of the work without the start of
the process. `--update` writes what was measured.
"""

import json
import pathlib
import re
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
GATE = ROOT / "benches" / "gate.json"
TOLERANCE = 0.10


def binaries() -> dict[str, str]:
    """Builds the benchmarks, and nothing else of their packages; their executables by name."""
    look = ["cargo", "metadata", "--format-version=1", "--no-deps", "--locked"]
    known = subprocess.run(look, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    build = ["cargo", "bench", "--all-features", "--locked", "--no-run", "--message-format=json"]
    for package in json.loads(known)["packages"]:
        benches = [target["name"] for target in package["targets"] if "bench" in target["kind"]]
        if benches:
            build += ["-p", package["name"], *(f"--bench={name}" for name in benches)]
    out = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, str] = {}
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("executable") and "bench" in message["target"]["kind"]:
            found[message["target"]["name"]] = message["executable"]
    return found


def instructions(binary: str, arguments: list[str], count: int) -> int:
    """The instructions that one run of a path executes."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", binary, *arguments, str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    match = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or match is None:
        sys.exit(f"gate: {command} failed:\n{done.stdout}{done.stderr}")
    return int(match.group(1))


def main() -> None:
    gate: dict[str, dict[str, Any]] = json.loads(GATE.read_text())
    update = sys.argv[1:] == ["--update"]
    built = binaries()
    failed = False
    for path, row in gate.items():
        binary, count = built[row["bench"]], int(row["count"])
        once, twice = (instructions(binary, row["arguments"], n) for n in (count, 2 * count))
        measured = (twice - once) // count
        limit = int(row["instructions"])
        change = measured / limit - 1 if limit else 0.0
        worse = change > TOLERANCE and not update
        print(f"gate: {path}: {measured:,} instructions each, {change:+.1%} of {limit:,}{' TOO MANY' if worse else ''}")
        failed = failed or worse
        row["instructions"] = measured
    if update:
        GATE.write_text(json.dumps(gate, indent=2) + "\n")
    elif failed:
        sys.exit("gate: a hot path costs over 10% more; if that is meant, run scripts/gate.py --update")


main()
