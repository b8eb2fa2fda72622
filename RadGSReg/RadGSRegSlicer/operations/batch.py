"""Many cases one after the other: a table (CSV) and one transform per case."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from RadGSRegLib.errors import Cancelled, InputError

from ..process import environment
from ..process.tasks import Task, WorkFolder, processEvents
from ..process.timers import makeTimer

ProgressCallback = Callable[[float, str], object]
Row = dict[str, Any]

COLUMNS = ("case", "status", "expected_error_mm", "mtre_mm", "seconds", "transform", "problem")
TABLE = "batch.csv"


class Batch:
    """Registrations of case files, each in a child process of its own.

    To the caller a `Task`: ``poll``, ``wait``, ``cancel``, ``progress``, ``message``, ``error`` and
    ``result``, here a list of rows (dict). A case that fails gets a row with the reason and does
    not stop the others; cancelling ends all, and what was done stays.
    """

    def __init__(
        self,
        cases: Sequence[str | os.PathLike[str]],
        outputFolder: str | os.PathLike[str],
        *,
        device: str = "auto",
        effort: str = "normal",
        progressCallback: ProgressCallback | None = None,
        completedCallback: Callable[[Batch], object] | None = None,
    ) -> None:
        environment.requirePackages()
        self._cases = [_caseFile(Path(case)) for case in cases]
        if not self._cases:
            raise InputError("batch", "no case is given")
        self._out = Path(outputFolder).resolve()
        if self._out.exists() and not self._out.is_dir():
            raise InputError(self._out, "is a file, so results cannot be written into it")
        self._names = _names(self._cases)
        self._arguments = ["--device", device, "--effort", effort]
        self._progressCallback = progressCallback
        self._completedCallback = completedCallback
        self._task: Task[Row] | None = None
        self._started = 0.0
        self._cancelled = False
        self._timer: Any = None
        self._rows: list[Row] = []
        self.result: list[Row] | None = None
        self.error: Exception | None = None
        self.isFinished = False
        self.message = ""

    @property
    def progress(self) -> float:
        """How far all the cases are, in [0, 1]."""
        part = self._task.progress if self._task is not None else 0.0
        return min((len(self._rows) + part) / len(self._cases), 1.0)

    def start(self) -> None:
        """Start the first case; returns at once."""
        self._out.mkdir(parents=True, exist_ok=True)
        self._next()

    def startTimer(self, interval_ms: int = 50) -> None:
        """Let a Qt timer call `poll` until the end (inside Slicer only)."""
        self._timer = makeTimer(interval_ms, self.poll)
        self._timer.start()

    def cancel(self) -> None:
        """End the present case's process tree within two seconds, and begin no other."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def poll(self) -> bool:
        """Take in progress; at a case's end write the table and begin the next."""
        if self.isFinished:
            return True
        if self._task is not None:
            if not self._task.poll():
                return False
            self._take(self._task)
            self._task = None
        if self._cancelled or len(self._rows) == len(self._cases):
            self._end()
            return True
        try:
            self._next()
        except Exception as error:  # a timer would come here again and again
            self.error = error
            self._end()
            return True
        return False

    def wait(self) -> list[Row]:
        """Wait for the end, with a window kept alive, and return the rows. Raises `Cancelled`."""
        idle = processEvents()
        try:
            while not self.poll():
                if idle is not None:
                    idle()
                time.sleep(0.02)
        except BaseException:
            self.cancel()
            if self._task is not None:
                self._task.end()
            raise
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def _next(self) -> None:
        case = self._cases[len(self._rows)]
        folder = WorkFolder(self._out / self._names[len(self._rows)])
        self._started = time.monotonic()
        task = Task(
            ["register", str(case), "--out", str(folder.outputs), *self._arguments],
            folder,
            lambda path: _row(path, case),
            progressCallback=self._tell,
        )
        task.start()
        self._task = task

    def _tell(self, fraction: float, message: str) -> object:
        number = len(self._rows)
        self.message = f"{self._names[number]} ({number + 1} of {len(self._cases)}): {message}"
        if self._progressCallback is None:
            return None
        return self._progressCallback((number + fraction) / len(self._cases), self.message)

    def _take(self, task: Task[Row]) -> None:
        if isinstance(task.error, Cancelled):
            self._cancelled = True
            return
        row: Row = dict.fromkeys(COLUMNS, "")
        row["case"] = self._names[len(self._rows)]
        row["seconds"] = round(time.monotonic() - self._started, 1)
        if task.error is not None:
            row.update(status="error", problem=str(task.error))
        else:
            row.update(task.result or {})
            row["transform"] = f"{row['case']}/ct_to_world.tfm"
        self._rows.append(row)
        try:
            _writeTable(self._out / TABLE, self._rows)
        except OSError as error:
            self.error = InputError(self._out, f"cannot be written to ({error.strerror})")
            self._cancelled = True

    def _end(self) -> None:
        self.isFinished = True
        if self._timer is not None:
            self._timer.stop()
        if self._cancelled:
            self.error = self.error or Cancelled(self.message or "cancelled")
        elif self.error is None:
            self.result = self._rows
        if self._completedCallback is not None:
            self._completedCallback(self)


def _caseFile(path: Path) -> Path:
    path = path / "case.json" if path.is_dir() else path
    if not path.is_file():
        raise InputError(path, "does not exist", "give case.json files or their folders")
    return path.resolve()


def _names(cases: Sequence[Path]) -> list[str]:
    """A name for every case: its folder's, made different where several are alike.

    Alike in any case of letters: Windows and macOS would put Case1 and case1 into one folder.
    """
    names: list[str] = []
    taken: set[str] = set()
    for case in cases:
        stem = case.parent.name if case.name == "case.json" else case.stem
        name = first = re.sub(r"[^\w.-]+", "_", stem) or "case"
        count = 1
        while name.lower() in taken:
            count += 1
            name = f"{first}-{count}"
        taken.add(name.lower())
        names.append(name)
    return names


def _row(results: Path, case: Path) -> Row:
    from RadGSRegLib.cases import read_registration_json

    record = read_registration_json(results / "registration.json")
    row: Row = {"status": record.status}
    expected = record.quality.get("expected_error_mm")
    if isinstance(expected, int | float):
        row["expected_error_mm"] = round(float(expected), 3)
    truth = case.parent / "truth.json"
    if truth.is_file():
        from RadGSRegLib.measures.pose import mtre

        content = json.loads(truth.read_text(encoding="utf-8"))
        if content.get("points_ct"):
            error = mtre(content["points_ct"], record.ct_to_world, content["ct_to_world"])
            row["mtre_mm"] = round(error, 3)
    return row


def _writeTable(path: Path, rows: Sequence[Row]) -> None:
    """Whole or not at all, again after every case: a long batch may be looked at as it goes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text.getvalue(), encoding="utf-8")
    part.replace(path)
