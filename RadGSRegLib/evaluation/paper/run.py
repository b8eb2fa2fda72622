"""All methods on all cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...system.progress import Progress
from ..protocol import find_cases, read_truth
from .answers import Answer, Method, Task
from .measure import Row, Yardstick, measure
from .starts import Start, drawn_tasks, own_task

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """How the error of a registration fell: seconds since its beginning, and mTRE (mm)."""

    case: str
    method: str
    seconds: tuple[float, ...]
    errors_mm: tuple[float, ...]


@dataclass(frozen=True)
class CaseAnswers:
    """What all methods said about one case from its own start, for pictures."""

    task: Task
    yardstick: Yardstick
    answers: tuple[tuple[Method, Answer], ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Runs:
    """Rows by case, run and method, and the curves of the runs from the cases' own starts."""

    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]


Seen = Callable[[CaseAnswers], None]


def run_methods(
    folder: Path,
    methods: Sequence[Method],
    *,
    start: Start = "center",
    draws: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
    seen: Seen | None = None,
) -> Runs:
    """Every method on every case of ``folder``: from its own start, and from ``draws`` others.

    ``seen`` is called with each case's answers as soon as there are all of them. A method that
    refuses a case (InputError) has failed there; the others go on. Raises InputError for cases
    that cannot be used (all are read first) and for methods that cannot work without a start.
    """
    report = progress or Progress()
    if not methods:
        raise InputError("--methods", "names none")
    for method in methods:
        if start == "none" and method.needs_start:
            raise InputError(
                "--start none", f"the method '{method.key}' needs a start", "leave it out"
            )
    cases = find_cases(folder)
    for number, case in enumerate(cases):
        report(0.05 * number / len(cases), f"reading {case.name}")
        own_task(case, start, seed)
        read_truth(case / "truth.json")
    rows: list[Row] = []
    curves: list[Curve] = []
    warm: set[str] = set()
    for number, case in enumerate(cases):
        low, high = (0.05 + 0.95 * n / len(cases) for n in (number, number + 1))
        part = report.part(low, high)
        own = own_task(case, start, seed)
        truth = read_truth(case / "truth.json")
        yardstick = Yardstick(own.case, truth)
        tasks = [own, *drawn_tasks(own, truth.ct_to_world, draws)]
        jobs = [
            (run, task, method)
            for run, task in enumerate(tasks)
            for method in methods
            if run == 0 or method.registers
        ]
        answers = []
        for count, (run, task, method) in enumerate(jobs):
            what = f"{own.name} ({number + 1} of {len(cases)}): {method.label}"
            answer, curve, problem = _watched(
                method, task, yardstick, part.part(count / len(jobs), (count + 1) / len(jobs)), what
            )
            rows.append(
                Row(
                    case=own.name,
                    level=truth.level,
                    method=method.key,
                    run=run,
                    start_mtre_mm=None if task.start is None else yardstick.mtre(task.start),
                    is_warm=method.key in warm,
                    problem=problem,
                    **measure(answer, yardstick),
                )
            )
            warm.add(method.key)
            if run == 0:
                answers.append((method, answer))
                if curve is not None:
                    curves.append(curve)
        if seen is not None:
            mine = tuple(row for row in rows if row.case == own.name and row.run == 0)
            seen(CaseAnswers(own, yardstick, tuple(answers), mine))
    report(1.0, "all cases done")
    return Runs(tuple(rows), tuple(curves))


def _watched(
    method: Method, task: Task, yardstick: Yardstick, progress: Progress, what: str
) -> tuple[Answer, Curve | None, str]:
    """The answer, how its pose came about, and the problem where there is no answer."""
    poses: list[tuple[float, Array]] = []

    def tell(fraction: float, message: str) -> bool:
        progress(fraction, what)
        return True

    began = time.perf_counter()

    def note(pose: Array) -> None:
        poses.append((time.perf_counter() - began, np.array(pose, dtype=float)))

    tell(0.0, what)
    try:
        answer = method.solve(task, Progress(tell, on_pose=note))
    except InputError as error:
        return Answer(), None, str(error)
    if not method.registers or answer.ct_to_world is None:
        return answer, None, ""
    if answer.registration_s is not None:
        # The reconstruction that follows is no part of the way to the pose.
        poses = [(s, pose) for s, pose in poses if s <= answer.registration_s]
        poses.append((answer.registration_s, answer.ct_to_world))
    if task.start is not None:
        poses.insert(0, (0.0, task.start))
    seconds = tuple(s for s, _ in poses)
    return (
        answer,
        Curve(task.name, method.key, seconds, tuple(yardstick.mtre(pose) for _, pose in poses)),
        "",
    )
