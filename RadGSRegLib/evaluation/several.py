"""Several vertebrae of each case, registered together, against the truth of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..cases import Case, labels_of, level_names, software_versions, write_json
from ..errors import InputError
from ..methods import OURS, About, Answer, Task
from ..multilevel import SpineRegistration, register_vertebrae
from ..registration import registration_options
from ..system import Progress
from ..vertebrae import LEVELS, vertebra_level
from . import plots, summary, tables
from .measure import Row, Yardstick
from .reports import EvaluationOptions, Report, write_pictures
from .run import Runs
from .starts import own_task
from .summary import Summary, by_kind, expected_of, summarize
from .truth import Truth, find_cases, read_truth

_ABOUT = About(OURS, "several vertebrae together", "ours", reconstructs=False)

Solve = Callable[[Case, Sequence[int], Task, Progress], SpineRegistration]
"""What registers labels of a case together. Raises InputError to refuse it."""


@dataclass(frozen=True)
class _Known:
    """A case with its start, what is asked for of it, and the truth of each."""

    task: Task
    names: dict[int, str]
    truths: dict[int, Truth]

    def yardstick(self, label: int) -> Yardstick:
        case = self.task.needed_case()
        return Yardstick(replace(case, label=label), self.truths[label])


def write_several(
    folder: Path,
    stage: Path,
    options: EvaluationOptions,
    wanted: str,
    progress: Progress | None = None,
) -> Report:
    """Register several vertebrae of every case of ``folder`` together, and write tables and plots
    into ``stage``.

    Args:
        folder: cases with their truth.
        stage: an existing folder; write inside a `cases.OutputFolder`.
        options: start, seed and device; it is of no other method.
        wanted: labels, as ``register --labels`` has them; of "all" those whose truth is known.
        progress: told of the share done; may cancel.

    Returns:
        The summaries of every vertebra by name, of every realism and of "all"; the rows, one for
        each vertebra of each case.

    Raises:
        InputError: before any work, for what cannot be used.
        Cancelled: when ``progress`` says so.
    """
    report = progress or Progress()
    chosen = registration_options("normal", seed=options.seed)

    def solve(case: Case, labels: Sequence[int], task: Task, part: Progress) -> SpineRegistration:
        return register_vertebrae(case, labels, task.given, chosen, part, device=options.device)

    rows = several_rows(folder, wanted, options, report.part(0.0, 0.98), solve)
    answered = [row for row in rows if not row.left_out]
    by_vertebra, by_realism = _by_vertebra(answered), summary.by_realism(answered, _ABOUT)
    (whole,) = summarize(answered, [_ABOUT])
    parts = {**by_vertebra, **by_realism, "all": whole}
    expected = {
        name: expected_of([r for r in answered if name in (r.vertebra, r.realism, "all")])
        for name in parts
    }
    text = tables.cases_markdown(rows, parts, expected)
    (stage / "evaluation.md").write_text(text, encoding="utf-8")
    csv_text = tables.rows_csv(rows, tables.SEVERAL_COLUMNS)
    (stage / "evaluation.csv").write_text(csv_text, encoding="utf-8")

    def told(name: str) -> dict[str, Any]:
        said = expected[name]
        more = {
            "expected_error_median_mm": said.median_mm,
            "within_twice_expected": said.within_twice,
        }
        return {**parts[name].contract(), **more}

    content = {
        "schema": "radgsreg/evaluation",
        "version": 1,
        "summary": {
            "all": told("all"),
            "levels": {name: told(name) for name in by_realism},
            "vertebrae": {name: told(name) for name in by_vertebra},
            "left_out": len(rows) - len(answered),
        },
        "trials": [tables.row_values(row, tables.SEVERAL_COLUMNS) for row in rows],
        "software": software_versions(),
        "parameters": {
            "seed": options.seed,
            "start": options.start,
            "method": OURS,
            "labels": wanted,
        },
    }
    write_json(content, stage / "evaluation.json")
    write_pictures(stage, _plots(answered))
    return Report(text, parts, Runs(tuple(rows), ()))


def several_rows(
    folder: Path,
    wanted: str,
    options: EvaluationOptions,
    progress: Progress,
    solve: Solve,
) -> list[Row]:
    """Run ``solve`` on every case of ``folder``; a row for each vertebra, in the order of the cases
    and along the spine.

    All vertebrae of a case that is refused have failed where the start leaves them. One that an
    X-ray does not show is left out, which is no failure. Raises InputError for cases that cannot be
    used (all are read first).
    """
    cases = find_cases(folder)
    for number, path in enumerate(cases):
        progress(0.05 * number / len(cases), f"reading {path.name}")
        _known(path, wanted, options)
    rows: list[Row] = []
    for number, path in enumerate(cases):
        known = _known(path, wanted, options)
        low, high = (0.05 + 0.95 * n / len(cases) for n in (number, number + 1))
        part = progress.part(low, high)
        part(0.0, f"{known.task.name} ({number + 1} of {len(cases)})")
        rows += _rows_of(known, options, number > 0, part, solve)
    progress(1.0, "all cases done")
    return rows


def _known(path: Path, wanted: str, options: EvaluationOptions) -> _Known:
    task = own_task(path, options.start, options.seed)
    case, truth = task.needed_case(), read_truth(path / "truth.json")
    if len(case.views) < 2:
        problem = "has one X-ray alone; several vertebrae need two or more"
        raise InputError(path, problem, "leave --labels out")
    poses = {case.label: truth.ct_to_world, **truth.neighbours}
    labels = labels_of(case, wanted)
    if wanted.strip().lower() == "all":
        labels = [label for label in labels if label in poses]
    labels = list(dict.fromkeys([case.label, *labels]))
    names = level_names(case.label_names, labels)
    for label in labels:
        if label not in poses:
            problem = f'has no true pose of {names[label]} under "neighbours"'
            raise InputError(path / "truth.json", problem, "leave it out of --labels")
    # The points of a truth are the target's own.
    others = {label: replace(truth, ct_to_world=poses[label], points_ct=None) for label in labels}
    return _Known(task, names, {**others, case.label: truth})


def _rows_of(
    known: _Known, options: EvaluationOptions, is_warm: bool, part: Progress, solve: Solve
) -> list[Row]:
    task, began = known.task, time.perf_counter()
    spine, problem = None, ""
    try:
        spine = solve(task.needed_case(), list(known.names), task, part)
    except InputError as error:
        problem = str(error)
    seconds = time.perf_counter() - began
    order = list(known.names) if spine is None else [*spine.levels, *spine.left_out]
    rows = []
    for label in order:
        yardstick = known.yardstick(label)
        row = Row(
            case=task.name,
            vertebra=known.names[label],
            realism=known.truths[label].realism,
            method=OURS,
            start=options.start,
            start_mtre_mm=None if task.start is None else yardstick.mtre(task.start),
            is_warm=is_warm,
        )
        if spine is None:
            rows.append(replace(row, **yardstick.failed(task, problem, seconds)))
        elif label in spine.left_out:
            rows.append(replace(row, left_out=True, reason=f"left out: {spine.left_out[label]}"))
        else:
            done = spine.levels[label]
            answer = Answer(
                done.ct_to_world,
                seconds,
                status=done.status,
                reason=done.reason,
                quality=done.quality,
            )
            rows.append(replace(row, **yardstick.measure(answer)))
    return rows


def _by_vertebra(rows: Sequence[Row]) -> dict[str, Summary]:
    """The summary of each vertebra, from the head down; of names that are no level at the end."""
    place = {level: number for number, level in enumerate(LEVELS)}
    every = by_kind(rows, _ABOUT, lambda row: row.vertebra)
    names = sorted(every, key=lambda name: place.get(vertebra_level(name) or "", len(place)))
    return {name: every[name] for name in names}


def _plots(rows: Sequence[Row]) -> dict[str, bytes]:
    """Those of one target, each vertebra a case of its own; the time is of all of a case."""
    named = [replace(row, case=f"{row.case} {row.vertebra}") for row in rows]
    firsts = {row.case: row for row in reversed(rows)}
    return {**plots.case_plots(named), "times.png": plots.times(list(firsts.values())[::-1])}
