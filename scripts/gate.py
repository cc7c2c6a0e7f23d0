"""Counts the instructions of the hot paths under callgrind and compares them with `benches/gate.json`.

Each row names a program of `benches/gate`, the arguments that choose one path of it, and a count of operations, which
is passed as its last argument. It is run with that count and twice of it; the difference is the cost of the work
without the start of the process. `--update` writes what was measured.
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


def folder() -> pathlib.Path:
    """Builds the benchmarks; where their executables are."""
    command = ["cargo", "build", "--release", "--locked", "-p", "apex-gate", "--message-format=json"]
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    built = (json.loads(line).get("executable") for line in out.splitlines())
    return next(pathlib.Path(path).parent for path in built if path)


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
    built = folder()
    failed = False
    for path, row in gate.items():
        binary, count = str(built / row["program"]), int(row["count"])
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
