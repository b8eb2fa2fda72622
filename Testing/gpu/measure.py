"""Everything about a GPU in one command: is it right, and how fast is it?

    python Testing/gpu/measure.py --out FOLDER

Checks every kernel, the networks and the simulation against the CPU, the search and whole
registrations of cases that it simulates itself against the truth, and measures them. Ends within
``--minutes`` (7.5 unless given), and writes FOLDER/results.json and FOLDER/results.md after each
number. A part that fails, crashes or hangs is written down with its error, and the rest go on. Exit
status: 0 where all that can be measured here ran and agreed, else 1.

It needs no network. Bring along what the machine lacks: `collect_wheels.py` beside this file says
how. Without a GPU (``--device cpu``) the same parts run on the CPU; ``--size tiny`` is for a test.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from measuring.parts import Limits, run_guarded, run_here
from measuring.tables import summary
from peer_report import write

# The most important first: the time may be over before the last.
PARTS = (
    "machine",
    "kernels",
    "registration",
    "timings",
    "search",
    "simulation",
    "networks",
    "training",
    "reconstruction",
    "gsplat",
)
SCHEMA = "radgsreg/measurements"
# gsplat compiles itself with nvcc when it is first used.
LIMITS_S = {"kernels": 150.0, "registration": 150.0, "gsplat": 240.0}


def measure(out: Path, size: str, device: str, minutes: float, names: Sequence[str]) -> bool:
    """Run parts in children and write the results; whether all ran and agreed."""
    began = time.monotonic()
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "version": 1,
        "began": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "asked": {"size": size, "device": device, "minutes": minutes},
        "machine": {},
        "parts": {name: {"status": "not run"} for name in names},
    }

    def hear(name: str, answer: dict[str, Any]) -> None:
        results["machine"] |= answer.get("facts", {})
        results["parts"][name] = {key: answer[key] for key in answer if key != "facts"}
        results["seconds"] = round(time.monotonic() - began, 1)
        write(out, "results", results, summary(results))
        if answer["status"] != "begun":
            print(f"{name}: {answer['status']}", file=sys.stderr, flush=True)

    def command(left: Sequence[str]) -> list[str]:
        script = str(Path(__file__).resolve())
        return [sys.executable, script, "--child", *left, "--size", size, "--device", device]

    run_guarded(names, command, Limits(60.0 * minutes, parts=LIMITS_S), hear)
    parts = results["parts"].values()
    checks = [check for part in parts for check in part.get("checks", [])]
    ran = all(part["status"] in ("ok", "not here") for part in parts)
    return ran and all(check["ok"] for check in checks)


def child(size: str, device: str, names: Sequence[str]) -> int:
    """Run parts in this process."""
    from setting import around, parts_of

    return run_here(parts_of(size, device), names, around(device))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a folder for results.json and results.md")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), default="auto")
    parser.add_argument("--minutes", type=float, default=7.5, help="all ends by then")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.child:
        return child(asked.size, asked.device, asked.child)
    if asked.out is None:
        parser.error("--out is needed")
    good = measure(asked.out, asked.size, asked.device, asked.minutes, asked.parts)
    print((asked.out / "results.md").read_text(encoding="utf-8"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
