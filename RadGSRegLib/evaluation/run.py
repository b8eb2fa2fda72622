"""All methods on all cases."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry import Array
from ..methods import Answer, Method, Task
from ..system import Progress
from .measure import Row, Yardstick
from .starts import StartKind, drawn_tasks, one_view_tasks, own_task
from .truth import Truth, find_cases, read_truth


@dataclass(frozen=True)
class RunOptions:
    """From where to begin, and what counts.

    ``draws``: further starts per case, for registration alone; ``volumes``: whether reconstructions
    are wanted from the cases' own starts. ``refusal_fails``: a method that refuses a case has
    failed at the start's pose; otherwise it has no numbers there. ``one_grid``: see `Yardstick`.
    ``one_view``: every view of a case is a case of its own.
    """

    start: StartKind = "center"
    draws: int = 0
    seed: int = 0
    volumes: bool = True
    refusal_fails: bool = False
    one_grid: bool = True
    one_view: bool = False


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


def run_methods(
    folder: Path,
    methods: Sequence[Method],
    options: RunOptions | None = None,
    progress: Progress | None = None,
    on_case: Callable[[CaseAnswers], None] | None = None,
) -> Runs:
    """Run every method on every case of ``folder``: from its own start, and from drawn others.

    ``on_case`` is called with each case's answers as soon as there are all of them. A method that
    refuses a case (InputError) has failed there; the others go on. Raises InputError for cases
    that cannot be used (all are read first) and for methods that cannot work without a start.
    """
    options, report = options or RunOptions(), progress or Progress()
    if not methods:
        raise InputError("--method", "names none")
    for method in methods:
        if options.start == "none" and method.about.needs_start:
            raise InputError(
                "--start none", f"the method '{method.about.key}' needs a start", "leave it out"
            )
    cases = find_cases(folder)
    for number, path in enumerate(cases):
        report(0.05 * number / len(cases), f"reading {path.name}")
        own = own_task(path, options.start, options.seed)
        if options.volumes and (options.one_view or len(own.views) < 2):
            raise InputError(
                path,
                "is of one X-ray alone, which shows no volume",
                "ask for the registration only",
            )
        read_truth(path / "truth.json")
    rows: list[Row] = []
    curves: list[Curve] = []
    for number, path in enumerate(cases):
        low, high = (0.05 + 0.95 * n / len(cases) for n in (number, number + 1))
        part = report.part(low, high)
        whole = replace(own_task(path, options.start, options.seed), wants_volume=options.volumes)
        truth = read_truth(path / "truth.json")
        owns = one_view_tasks(whole) if options.one_view else [whole]
        for count, own in enumerate(owns):
            stretch = part.part(count / len(owns), (count + 1) / len(owns))
            known = _Known(own, truth, f"{own.name} ({number + 1} of {len(cases)})")
            answers = _case_answers(known, methods, options, stretch, rows, curves)
            if on_case is not None:
                on_case(answers)
    report(1.0, "all cases done")
    return Runs(tuple(rows), tuple(curves))


@dataclass(frozen=True)
class _Known:
    """A case with its own start, its truth, and what it is called beside others."""

    own: Task
    truth: Truth
    title: str


def _case_answers(
    known: _Known,
    methods: Sequence[Method],
    options: RunOptions,
    progress: Progress,
    rows: list[Row],
    curves: list[Curve],
) -> CaseAnswers:
    """Every method on one case, from all starts; adds to the rows and curves there are."""
    own, truth = known.own, known.truth
    yardstick = Yardstick(own.needed_case(), truth, one_grid=options.one_grid)
    tasks = [own, *drawn_tasks(own, truth.ct_to_world, options.draws)]
    jobs = [
        (run, task, method)
        for run, task in enumerate(tasks)
        for method in methods
        if run == 0 or method.about.registers
    ]
    warm = {row.method for row in rows}
    answers, first = [], len(rows)
    for count, (run, task, method) in enumerate(jobs):
        about = method.about
        stretch = progress.part(count / len(jobs), (count + 1) / len(jobs))
        began = time.perf_counter()
        what = f"{known.title}: {about.label}"
        answer, curve, problem = _watched(method, task, yardstick, stretch, what)
        if not problem:
            fields = yardstick.measure(answer)
        elif options.refusal_fails:
            fields = yardstick.failed(task, problem, time.perf_counter() - began)
        else:
            fields = {"problem": problem}
        rows.append(
            Row(
                case=own.name,
                realism=truth.realism,
                method=about.key,
                start=options.start,
                run=run,
                start_mtre_mm=None if task.start is None else yardstick.mtre(task.start),
                is_warm=about.key in warm,
                **fields,
            )
        )
        warm.add(about.key)
        if run == 0:
            answers.append((method, answer))
            if curve is not None:
                curves.append(curve)
    mine = tuple(row for row in rows[first:] if row.run == 0)
    return CaseAnswers(own, yardstick, tuple(answers), mine)


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
        answer = method.solve(replace(task, progress=Progress(tell, on_pose=note)))
    except InputError as error:
        return Answer(), None, str(error)
    if not method.about.registers or answer.ct_to_world is None:
        return answer, None, ""
    if answer.registration_s is not None:
        # The reconstruction that follows is no part of the way to the pose.
        poses = [(s, pose) for s, pose in poses if s <= answer.registration_s]
        poses.append((answer.registration_s, answer.ct_to_world))
    if task.start is not None:
        poses.insert(0, (0.0, task.start))
    seconds = tuple(s for s, _ in poses)
    errors = tuple(yardstick.mtre(pose) for _, pose in poses)
    return answer, Curve(task.name, method.about.key, seconds, errors), ""
