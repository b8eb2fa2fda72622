"""Runs of X-rays: a bone followed through each, every frame against its truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from ..cases import Run, software_versions, write_json
from ..errors import InputError
from ..geometry import Array
from ..registration import registration_options
from ..system import Progress
from ..tracking import Track, TrackOptions, track_case
from . import plots, tables
from .frames import FrameRow, TrackFigures, frame_rows, track_drift_mm, track_figures
from .measure import Yardstick
from .one_view import OneView, one_view_parts
from .reports import EvaluationOptions, write_pictures
from .starts import run_and_start
from .truth import Truth, find_cases, read_truth

Follow = Callable[[Run, Array | None, Progress], Track]
"""What follows a bone through a run. Raises InputError to refuse it."""


@dataclass(frozen=True)
class TracksReport:
    """``text``: the tables as Markdown; ``whole``: all runs together; ``runs`` one by one;
    ``frames`` of all; ``one_view``: of runs of one view, by run and "all"."""

    text: str
    whole: TrackFigures
    runs: tuple[TrackFigures, ...]
    frames: tuple[FrameRow, ...]
    one_view: Mapping[str, OneView] = field(default_factory=dict)


def write_tracks(
    folder: Path, stage: Path, options: EvaluationOptions, progress: Progress | None = None
) -> TracksReport:
    """Follow the bone through every run of ``folder``, and write tables and a plot into ``stage``.

    Use it inside a `cases.OutputFolder`. Raises InputError before any work for what cannot be used,
    and Cancelled when ``progress`` says so.
    """
    report = progress or Progress()
    asked = TrackOptions(registration_options("normal", seed=options.seed))

    def follow(run: Run, start: Array | None, part: Progress) -> Track:
        return track_case(run, start, asked, part, device=options.device)

    made = followed_runs(folder, options, report.part(0.0, 0.98), follow)
    (stage / "evaluation.md").write_text(made.text, encoding="utf-8")
    trials = [asdict(figures) for figures in made.runs]
    columns = [f.name for f in fields(TrackFigures)]
    text = tables.records_csv(columns, trials)
    (stage / "evaluation.csv").write_text(text, encoding="utf-8")
    frames = [{**asdict(row), "silent_failure": row.is_silent_failure} for row in made.frames]
    columns = [*(f.name for f in fields(FrameRow)), "silent_failure"]
    (stage / "frames.csv").write_text(tables.records_csv(columns, frames), encoding="utf-8")
    whole = {key: value for key, value in asdict(made.whole).items() if key not in _OF_ONE}
    content = {
        "schema": "radgsreg/evaluation",
        "version": 1,
        "summary": {"all": {"runs": len(made.runs), **whole}},
        "one_view": {name: part.to_json() for name, part in made.one_view.items()},
        "trials": trials,
        "frames": frames,
        "software": software_versions(),
        "parameters": {"seed": options.seed, "start": options.start, "method": "track"},
    }
    write_json(content, stage / "evaluation.json")
    courses = {
        figures.name: [row for row in made.frames if row.run == figures.name]
        for figures in made.runs
    }
    drawn = {name: _course(rows) for name, rows in courses.items() if rows}
    if drawn:
        write_pictures(stage, {"errors_by_frame.png": plots.errors_by_frame(drawn)})
    return made


def followed_runs(
    folder: Path, options: EvaluationOptions, progress: Progress, follow: Follow
) -> TracksReport:
    """Follow every run of ``folder`` and hold it against its truth.

    A run that is refused has failed: no frame of it is `ok`, and ``problem`` says why. Raises
    InputError for runs that cannot be used (all are read first).
    """
    paths = find_cases(folder)
    for index, path in enumerate(paths):
        progress(0.05 * index / len(paths), f"reading {path.name}")
        _known(path, options)
    runs: list[TrackFigures] = []
    rows: list[FrameRow] = []
    seconds = 0.0
    for index, path in enumerate(paths):
        low, high = (0.05 + 0.95 * n / len(paths) for n in (index, index + 1))
        part = progress.part(low, high)
        part(0.0, f"{path.name} ({index + 1} of {len(paths)})")
        name, (run, start, truth) = path.resolve().name, _known(path, options)
        try:
            track = follow(run, start, part)
        except InputError as error:
            own = _refused(name, truth, str(error))
            figures = track_figures(own, None, None)
            figures = replace(figures, problem=str(error))
        else:
            points_ct = Yardstick(run.case, truth).points_ct
            own = frame_rows(track, truth, points_ct, name)
            total = track.timing_s["total"]
            figures = track_figures(own, track_drift_mm(track, truth, points_ct), total)
            seconds += total
        runs.append(replace(figures, name=name, realism=truth.realism))
        rows += own
    progress(1.0, "all runs done")
    whole = _whole(runs, rows, seconds)
    groups = {run.name: [row for row in rows if row.run == run.name] for run in runs}
    alone = one_view_parts({**groups, "all": rows})
    text = tables.tracks_markdown(runs, whole)
    if alone:
        text += f"\n{tables.one_view_markdown(alone, 'frames')}"
    return TracksReport(text, whole, tuple(runs), tuple(rows), alone)


def _whole(runs: Sequence[TrackFigures], rows: Sequence[FrameRow], seconds: float) -> TrackFigures:
    """All runs together: the largest drift, and how fast those went that were followed."""
    drifts = [figures.drift_mm for figures in runs if figures.drift_mm is not None]
    followed = sum(figures.frames for figures in runs if not figures.problem)
    whole = track_figures(rows, max(drifts, default=None), None)
    return replace(whole, name="all", frames_per_s=followed / seconds if seconds else None)


def _refused(name: str, truth: Truth, problem: str) -> list[FrameRow]:
    return [
        FrameRow(name, n, "failed", "not found", frame.blank, reason=problem)
        for n, frame in enumerate(truth.frames)
    ]


_OF_ONE = ("name", "realism", "problem")


def _known(path: Path, options: EvaluationOptions) -> tuple[Run, Array | None, Truth]:
    """A run, its start and its truth. Raises InputError where they do not belong together."""
    run, start = run_and_start(path, options.start)
    truth = read_truth(path / "truth.json")
    if len(truth.frames) != run.frames:
        raise InputError(
            path / "truth.json", f"has {len(truth.frames)} frames, and the run has {run.frames}"
        )
    return run, start, truth


def _course(rows: Sequence[FrameRow]) -> plots.Course:
    return plots.Course(
        tuple(row.frame for row in rows),
        tuple(row.mtre_mm for row in rows),
        tuple(row.smoothed_mm for row in rows),
        tuple(row.status for row in rows),
    )
