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
from dataclasses import dataclass, field
from functools import partial
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
    tell: Callable[[], None] = field(default=lambda: None, repr=False)
    """Called whenever something is written down."""

    def figure(self, what: str, value: float, unit: str) -> None:
        """Write a number down."""
        self.figures.append({"what": what, "value": float(value), "unit": unit})
        self.tell()

    def check(self, what: str, error: float, limit: float) -> None:
        """Write down how far something is from what it should be."""
        agrees = bool(float(error) <= limit)
        self.checks.append({"what": what, "error": float(error), "limit": limit, "ok": agrees})
        self.tell()

    def as_dict(self) -> dict[str, Any]:
        """All that is there."""
        names = ("ran_on", "figures", "checks", "remarks", "facts")
        return {name: getattr(self, name) for name in names}


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
    """In a child: run parts, and answer each with a line of JSON on standard output, and with one
    whose status is "begun" whenever it writes something down.

    Returns the exit status: 0, or 3 where no further part can run in this process.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    for name in names:
        began = time.perf_counter()
        notes = Notes()
        notes.tell = partial(_tell, answers, name, "begun", notes)
        peak_mib = around.peak_mib()
        status, error = "ok", None
        try:
            parts[name](notes)
        except NotHereError as why:
            status, error = "not here", str(why)
        except Exception:
            status, error = "failed", traceback.format_exc()[-3000:]
        usable = around.usable()
        seconds = time.perf_counter() - began
        peak = peak_mib() if usable else None
        _tell(answers, name, status, notes, error=error, seconds=seconds, peak_mib=peak)
        if not usable:
            return 3
    return 0


def _tell(to: IO[str], name: str, status: str, notes: Notes, **more: Any) -> None:
    answer = {"part": name, "status": status, **notes.as_dict(), **more}
    print(json.dumps(answer), file=to, flush=True)


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
    """Run parts in children, and tell ``hear`` of each (name, what became of it), also of what a
    part has written down so far: then the status is "begun".

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
            late = time.monotonic() + limits.parts.get(name, limits.part_s)
            late = min(ends, late + (0 if done else limits.start_s))
            begun: dict[str, Any] = {}
            while True:
                try:
                    line = lines.get(timeout=max(0.0, late - time.monotonic()))
                except queue.Empty:
                    child.kill()
                    child.wait()
                    over = "the time was over" if late >= ends else "it took too long"
                    return done, {**begun, "status": "timed out", "error": over}
                if line is None:
                    status = child.wait()
                    if status == 3 and done:
                        return done, None
                    complaints.seek(0)
                    said = complaints.read()[-3000:].strip()
                    error = f"{said}\nthe process ended with status {status}".strip()
                    return done, {**begun, "status": "crashed", "error": error}
                answer = json.loads(line)
                if answer.pop("part") == name:
                    hear(name, answer)
                    if answer["status"] != "begun":
                        break
                    begun = answer
        child.wait()
        return len(names), None


def _listen(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    """Hand on lines that are answers, and None at the end."""
    for line in stream:
        if line.startswith("{"):
            lines.put(line)
    lines.put(None)
