"""Many cases one after the other: a table (CSV) and one transform per case."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from RadGSRegLib.choices import DEVICES, EFFORTS
from RadGSRegLib.errors import Cancelled, InputError

from ..process import environment
from ..process.driver import Driver
from ..process.runs import CommandRun, WorkFolder
from .requests import Argument, Request, choice

Row = dict[str, Any]

COLUMNS = ("case", "status", "expected_error_mm", "mtre_mm", "seconds", "transform", "problem")
TABLE = "batch.csv"


@dataclass
class BatchRequest(Request):
    """Register many cases one after the other.

    ``cases``: ``case.json`` files or their folders. ``outputFolder`` gets ``batch.csv`` and a
    folder with transform and results per case. A case that fails is a row that says why; where
    ``truth.json`` lies beside a case, the row holds the error.
    """

    cases: Sequence[str | os.PathLike[str]]
    _: KW_ONLY
    device: str = choice("auto", DEVICES)
    effort: str = choice("normal", EFFORTS)

    @property
    def caseFiles(self) -> list[Path]:
        """The case.json files. Raises InputError where one is not there."""
        return [_caseFile(Path(case)) for case in self.cases]

    @property
    def folder(self) -> Path:
        """Where the results go. Raises InputError where none is given."""
        if self.outputFolder is None:
            raise InputError("outputFolder", "is not given", "say where the results go")
        return Path(self.outputFolder).resolve()

    def check(self) -> None:
        super().check()
        if not self.caseFiles:
            raise InputError("batch", "no case is given")
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(self.folder, "is a file, so results cannot be written into it")

    def driver(self) -> Batch:
        environment.requirePackages()
        self.check()
        return Batch(self)

    def argumentsFor(self, case: Path, folder: WorkFolder) -> list[Argument]:
        """The command line for one of the cases."""
        options = ["--device", self.device, "--effort", self.effort]
        return ["register", case, "--out", folder.outputs, *options]


class Batch(Driver[list[Row]]):
    """Registrations of case files, each in a child process of its own.

    Its ``job`` is the `CommandRun` of the present case, its ``result`` a list of rows (dict). A
    case that fails gets a row with the reason and does not stop the others; cancelling ends all,
    and what was done stays.
    """

    def __init__(self, request: BatchRequest) -> None:
        super().__init__(completedCallback=request.completedCallback)
        self._cases = request.caseFiles
        self._out = request.folder
        self._names = _names(self._cases)
        self._request = request
        self._started = 0.0
        self._rows: list[Row] = []
        self._message = ""

    @property
    def progress(self) -> float:
        """How far all the cases are, in [0, 1]."""
        part = self.job.progress if self.job is not None else 0.0
        return min((len(self._rows) + part) / len(self._cases), 1.0)

    @property
    def message(self) -> str:
        """What is being done, and for which case."""
        return self._message

    def _launch(self) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        self._next()

    def _advance(self) -> bool:
        """Take in progress; at a case's end write the table and begin the next."""
        if self.job is not None:
            if not self.job.poll():
                return False
            run, self.job = self.job, None
            self._take(run)
        if not self._isCancelled and len(self._rows) < len(self._cases):
            try:
                self._next()
            except Exception as error:  # a timer would come here again and again
                self.error = error
                return True
            return False
        if self._isCancelled:
            self.error = self.error or Cancelled(self._message or "cancelled")
        else:
            self.result = self._rows
        return True

    def _next(self) -> None:
        case = self._cases[len(self._rows)]
        self._started = time.monotonic()
        try:
            folder = WorkFolder(self._out / self._names[len(self._rows)])
        except InputError as error:  # the other cases are done all the same
            self._keep({"status": "error", "problem": str(error)})
            return
        run = CommandRun(
            self._request.argumentsFor(case, folder),
            folder,
            lambda path: _row(path, case),
            progressCallback=self._tell,
        )
        run.start()
        self.job = run

    def _tell(self, fraction: float, message: str) -> object:
        number = len(self._rows)
        self._message = f"{self._names[number]} ({number + 1} of {len(self._cases)}): {message}"
        if self._request.progressCallback is None:
            return None
        return self._request.progressCallback((number + fraction) / len(self._cases), self._message)

    def _take(self, run: CommandRun[Row]) -> None:
        if isinstance(run.error, Cancelled):
            self._isCancelled = True
            return
        if run.error is not None:
            self._keep({"status": "error", "problem": str(run.error)})
        else:
            name = self._names[len(self._rows)]
            self._keep({**(run.result or {}), "transform": f"{name}/ct_to_world.tfm"})

    def _keep(self, values: Row) -> None:
        """Note the next case's row, and write the table."""
        row: Row = dict.fromkeys(COLUMNS, "")
        row["case"] = self._names[len(self._rows)]
        row["seconds"] = round(time.monotonic() - self._started, 1)
        self._rows.append({**row, **values})
        try:
            _writeTable(self._out / TABLE, self._rows)
        except OSError as error:
            self.error = InputError(self._out, f"cannot be written to ({error.strerror})")
            self._isCancelled = True


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
        from RadGSRegLib.measures import mtre

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
