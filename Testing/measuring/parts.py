"""Parts of a measurement, each guarded: one that fails, crashes or hangs is written down, and the
rest go on.

Parts run in a child process, because what a GPU's fault or a crash leaves behind spoils whatever
comes after it in the same process. A child runs part after part and answers each with a line of
JSON; after a crash, a fault of the device or a part that outlasts its time another child takes the
parts that are left. Needs nothing but the standard library.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any


class NotHereError(Exception):
    """A part cannot be measured on this machine, and that is no fault."""


@dataclass
class Notes:
    """What a part writes down while it runs; what is there counts even if it fails later on.

    ``ran_on``: what the library or the tensors themselves say ("cpu", "cuda", "mixed", or who says
    nothing); ``facts`` of the machine.
    """

    ran_on: str = "not reported"
    figures: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def figure(self, what: str, value: float, unit: str) -> None:
        """Write a number down."""
        self.figures.append({"what": what, "value": float(value), "unit": unit})

    def check(self, what: str, error: float, limit: float) -> None:
        """Write down how far something is from what it should be."""
        agrees = bool(float(error) <= limit)
        self.checks.append({"what": what, "error": float(error), "limit": limit, "ok": agrees})


Work = Callable[[Notes], None]


@dataclass(frozen=True)
class Surroundings:
    """What a child does around its parts.

    ``peak_mib`` begins to watch memory, and returns what says the peak; ``usable`` says whether
    the process can go on after an error.
    """

    peak_mib: Callable[[], Callable[[], float]]
    usable: Callable[[], bool] = lambda: True


def run_here(parts: Mapping[str, Work], names: Sequence[str], around: Surroundings) -> int:
    """In a child: run parts, and answer each with a line of JSON on standard output.

    Returns the exit status: 0, or 3 where no further part can run in this process.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    for name in names:
        notes, began = Notes(), time.perf_counter()
        peak_mib = around.peak_mib()
        status, error = "ok", None
        try:
            parts[name](notes)
        except NotHereError as why:
            status, error = "not here", str(why)
        except Exception:
            status, error = "failed", traceback.format_exc()[-3000:]
        usable = around.usable()
        answer: dict[str, Any] = {"part": name, "status": status, "error": error, **asdict(notes)}
        answer["seconds"] = time.perf_counter() - began
        answer["peak_mib"] = peak_mib() if usable else None
        print(json.dumps(answer), file=answers, flush=True)
        if not usable:
            return 3
    return 0


@dataclass(frozen=True)
class Limits:
    """Seconds: for everything, for a part unless ``parts`` says otherwise, for a child to start."""

    total_s: float
    part_s: float = 120.0
    start_s: float = 60.0
    parts: Mapping[str, float] = field(default_factory=dict)


Hear = Callable[[str, dict[str, Any]], None]


def run_guarded(
    names: Sequence[str], command: Callable[[Sequence[str]], list[str]], limits: Limits, hear: Hear
) -> None:
    """Run parts in children, and tell ``hear`` of each (name, what became of it).

    ``command`` makes the command line of a child for parts; it calls `run_here`.
    """
    ends = time.monotonic() + limits.total_s
    left = list(names)
    while left:
        if time.monotonic() > ends:
            for name in left:
                hear(name, {"status": "not run", "error": "the time was over"})
            return
        done, why = _one_child(left, command(left), limits, ends, hear)
        left = left[done:]
        if left and why:
            hear(left.pop(0), why)


def _one_child(
    names: Sequence[str], command: list[str], limits: Limits, ends: float, hear: Hear
) -> tuple[int, dict[str, Any] | None]:
    """How many parts a child answered, and what became of the next one if it was begun."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, encoding="utf-8"
        )
        lines: queue.Queue[str | None] = queue.Queue()
        assert child.stdout is not None
        threading.Thread(target=_listen, args=(child.stdout, lines), daemon=True).start()
        for done, name in enumerate(names):
            allowed = limits.parts.get(name, limits.part_s) + (0 if done else limits.start_s)
            try:
                line = lines.get(timeout=max(0.0, min(allowed, ends - time.monotonic())))
            except queue.Empty:
                child.kill()
                child.wait()
                late = "the time was over" if time.monotonic() >= ends else f"after {allowed:.0f} s"
                return done, {"status": "timed out", "error": late}
            if line is None:
                status = child.wait()
                if status == 3 and done:
                    return done, None
                complaints.seek(0)
                said = complaints.read()[-3000:].strip()
                error = f"{said}\nthe process ended with status {status}".strip()
                return done, {"status": "crashed", "error": error}
            answer = json.loads(line)
            hear(answer.pop("part"), answer)
        child.wait()
        return len(names), None


def _listen(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    """Hand on lines that are answers, and None at the end."""
    for line in stream:
        if line.startswith("{"):
            lines.put(line)
    lines.put(None)
