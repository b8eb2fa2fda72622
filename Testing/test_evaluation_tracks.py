"""Runs of X-rays: every frame that was followed against its truth, and what they come to."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ball import CENTRE_CT, POSE, write_ball
from PIL import Image

from RadGSRegLib import cli
from RadGSRegLib.cases import Run, TrackedFrame
from RadGSRegLib.errors import InputError
from RadGSRegLib.evaluation import EvaluationOptions, followed_runs, hold_runs, read_truth, tracks
from RadGSRegLib.geometry import Array, compose_about
from RadGSRegLib.system import Progress
from RadGSRegLib.tracking import Track

FRAMES, BLANK = 12, 5


def true_pose(frame: int) -> Array:
    """The bone's pose in a frame: it moves by 2 mm from one to the next."""
    return compose_about(POSE, [0, 0, 0, 2.0 * frame, 0, 0], CENTRE_CT)


def write_run(folder: Path) -> None:
    """A run of the ball, the same picture in every frame, with a truth of each."""
    write_ball(folder, realism="realistic")
    for name in ("ap", "la"):
        still = folder / f"{name}.tif"
        (folder / name).mkdir()
        for frame in range(FRAMES):
            shutil.copy(still, folder / name / f"{frame:04d}.tif")
        still.unlink()
    views = json.loads((folder / "views.json").read_text())
    for entry in views["views"]:
        entry["image"] = entry["image"].removesuffix(".tif")
    (folder / "views.json").write_text(json.dumps(views))
    truth = json.loads((folder / "truth.json").read_text())
    truth["frames"] = [
        {"ct_to_world": true_pose(n).tolist(), "blank": n == BLANK} for n in range(FRAMES)
    ]
    (folder / "truth.json").write_text(json.dumps(truth))


def off(frame: int, error_mm: float) -> Array:
    """The true pose of a frame, shifted across its course."""
    return compose_about(true_pose(frame), [0, 0, 0, 0, error_mm, 0], CENTRE_CT)


def followed(run: Run, errors_mm: Sequence[float | None], statuses: Sequence[str]) -> Track:
    """A track whose frames are off by so much as measured (None: not found), half as smoothed."""
    frames = tuple(
        TrackedFrame(
            index=n,
            time_s=None,
            status=status,  # type: ignore[arg-type]
            reason="because",
            found="no picture" if n == BLANK else "forwards",
            ct_to_world=None if mm is None else off(n, mm),
            covariance=None if mm is None else np.eye(6),
            smoothed_ct_to_world=off(n, 0.5 * (mm or 0.0)),
            smoothed_covariance=np.eye(6),
            smoothed_error_mm=1.0,
            scores={} if mm is None else {"AP": 0.9, "LA": 0.8},
            expected_error_mm=None if mm is None else 0.25,
        )
        for n, (mm, status) in enumerate(zip(errors_mm, statuses, strict=True))
    )
    timing = {"register": 1.0, "follow": 3.0, "total": 4.0}
    return Track(run.case, frames, CENTRE_CT, 0, timing, {}, 0)


ERRORS: list[float | None] = [0.1] * FRAMES
ERRORS[BLANK], ERRORS[7], ERRORS[9], ERRORS[11] = None, 0.6, 3.0, 1.2
STATUSES = ["ok"] * FRAMES
STATUSES[BLANK], STATUSES[11] = "failed", "uncertain"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("first", "second"):
        write_run(tmp_path / "runs" / name)
    return tmp_path / "runs"


def test_frames_are_held_against_their_own_truth(folder: Path) -> None:
    starts: list[Array | None] = []

    def follow(run: Run, start: Array | None, progress: Progress) -> Track:
        starts.append(start)
        assert all(view.center_px for view in run.case.views)
        return followed(run, ERRORS, STATUSES)

    report = followed_runs(folder, EvaluationOptions(), Progress(), follow)
    assert starts == [None, None]
    own = report.frames[:FRAMES]
    expected = [None if mm is None else pytest.approx(mm) for mm in ERRORS]
    assert [row.mtre_mm for row in own] == expected
    assert [row.frame for row in own if row.is_silent_failure] == [9]
    run = report.runs[0]
    assert (run.name, run.realism, run.frames, run.shown, run.ok) == (
        "first",
        "realistic",
        FRAMES,
        FRAMES - 1,
        FRAMES - 2,
    )
    # Of eleven with a picture nine are below 1 mm, and of ten that are ok eight within 0.5 mm.
    assert run.smsr == pytest.approx(9 / 11)
    assert run.within_twice_expected == pytest.approx(0.8)
    assert (run.median_mm, run.largest_mm) == pytest.approx((0.1, 3.0))
    assert (run.smoothed_median_mm, run.smoothed_largest_mm) == pytest.approx((0.05, 1.5))
    assert run.p95_mm == pytest.approx(np.quantile([e for e in ERRORS if e is not None], 0.95))
    shown = [e for e in ERRORS if e is not None]
    assert run.drift_mm == pytest.approx(np.mean(shown[-10:]) - np.mean(shown[:10]))
    assert run.frames_per_s == pytest.approx(3.0)
    assert report.whole.silent_failures == 2
    assert (report.whole.frames, report.whole.frames_per_s) == (24, pytest.approx(3.0))


def test_a_blank_frame_that_is_ok_is_a_silent_failure(folder: Path) -> None:
    statuses = ["ok"] * FRAMES

    def follow(run: Run, start: Array | None, progress: Progress) -> Track:
        return followed(run, [0.1] * FRAMES, statuses)

    report = followed_runs(folder / "first", EvaluationOptions(), Progress(), follow)
    assert [row.frame for row in report.frames if row.is_silent_failure] == [BLANK]
    assert report.whole.ok == FRAMES - 1


def test_a_run_that_is_refused_has_failed_and_the_others_go_on(folder: Path) -> None:
    asked: list[Array | None] = []

    def follow(run: Run, start: Array | None, progress: Progress) -> Track:
        asked.append(start)
        assert not any(view.center_px for view in run.case.views)
        if len(asked) == 1:
            raise InputError("views", "show nothing")
        return followed(run, ERRORS, STATUSES)

    report = followed_runs(folder, EvaluationOptions(start="start"), Progress(), follow)
    assert all(start is not None for start in asked)
    bad, good = report.runs
    assert "show nothing" in bad.problem
    assert (bad.ok, bad.smsr, bad.median_mm, bad.frames_per_s) == (0, 0.0, None, None)
    assert good.problem == ""
    assert report.whole.smsr == pytest.approx(9 / 22)
    assert report.whole.frames_per_s == pytest.approx(3.0)


def test_of_one_plane_both_parts_of_the_error_are_told(folder: Path, tmp_path: Path) -> None:
    views = json.loads((folder / "first" / "views.json").read_text())
    del views["views"][1:]
    (folder / "first" / "views.json").write_text(json.dumps(views))

    def follow(run: Run, start: Array | None, progress: Progress) -> Track:
        track = followed(run, ERRORS, STATUSES)
        said = {"in_plane_error_mm": 0.07, "depth_error_mm": 13.0}
        frames = tuple(replace(f, evidence=said) for f in track.frames)
        return replace(track, frames=frames)

    report = followed_runs(folder / "first", EvaluationOptions(start="start"), Progress(), follow)
    assert set(report.one_view) == {"first", "all"}
    parts = report.one_view["all"]
    assert parts.cases == FRAMES - 1
    row = report.frames[9]
    assert row.in_plane_error_mm is not None
    assert row.depth_error_mm is not None
    assert np.hypot(row.in_plane_error_mm, row.depth_error_mm) == pytest.approx(3.0)
    assert (parts.depth.within_expected, parts.depth.expected_median_mm) == (1.0, 13.0)
    assert "| one view alone | frames |" in report.text


def test_tables_json_and_plot(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracks, "track_case", lambda run, *a, **k: followed(run, ERRORS, STATUSES))
    out = tmp_path / "out"
    assert cli.main(["evaluate", str(folder), "--out", str(out), "--device", "cpu"]) == 0
    said = capfd.readouterr().out
    assert "2 runs: 20 of 22 frames ok, silent failures 2, mTRE median 0.10 mm, SMSR 82 %" in said
    content = json.loads((out / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert content["summary"]["all"]["runs"] == 2
    assert content["summary"]["all"]["ok"] == 20
    assert content["one_view"] == {}
    assert [trial["name"] for trial in content["trials"]] == ["first", "second"]
    assert len(content["frames"]) == 2 * FRAMES
    lines = list(csv.DictReader(io.StringIO((out / "evaluation.csv").read_text())))
    assert [float(line["largest_mm"]) for line in lines] == pytest.approx([3.0, 3.0])
    frames = list(csv.DictReader(io.StringIO((out / "frames.csv").read_text())))
    assert frames[BLANK]["mtre_mm"] == ""
    assert [line["frame"] for line in frames if line["silent_failure"] == "1"] == ["9", "9"]
    text = (out / "evaluation.md").read_text()
    assert "| first | realistic | 10 of 11 | 82 % | 0.10 |" in text
    assert len({line.count("|") for line in text.strip().splitlines()}) == 1
    assert Image.open(out / "errors_by_frame.png").width > 400


def test_runs_and_stills_are_evaluated_apart(folder: Path) -> None:
    assert hold_runs(folder)
    assert hold_runs(folder / "first")
    write_ball(folder / "still")
    with pytest.raises(InputError, match=r"cases of single X-rays \(still\)"):
        hold_runs(folder)
    assert not hold_runs(folder / "still")


def test_what_cannot_be_followed_is_refused_before_any_work(folder: Path) -> None:
    def never(run: Run, start: Array | None, progress: Progress) -> Track:
        raise AssertionError("nothing may be followed")

    path = folder / "second" / "truth.json"
    truth = json.loads(path.read_text())
    for frames, match in (
        (truth["frames"][:-1], "has 11 frames, and the run has 12"),
        ([{"blank": False}], '"frames" must hold a 4x4'),
        ([{"ct_to_world": np.diag([2.0, 1, 1, 1]).tolist()}], "not a rigid 4x4"),
    ):
        path.write_text(json.dumps({**truth, "frames": frames}))
        with pytest.raises(InputError, match=match):
            followed_runs(folder, EvaluationOptions(), Progress(), never)
    path.write_text(json.dumps(truth))
    (folder / "first" / "start.json").unlink()
    with pytest.raises(InputError, match=r"has no start\.json"):
        followed_runs(folder, EvaluationOptions(start="start"), Progress(), never)
    views = json.loads((folder / "first" / "views.json").read_text())
    del views["views"][1:]
    (folder / "first" / "views.json").write_text(json.dumps(views))
    with pytest.raises(InputError, match="fewer than two views with a center_px"):
        followed_runs(folder, EvaluationOptions(), Progress(), never)


@pytest.mark.parametrize(
    "words",
    [["--one-view"], ["--labels", "L3"], ["--protocol", "paper"], ["--method", "descent"]],
)
def test_what_does_not_go_with_runs(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    out = tmp_path / "out"
    assert cli.main(["evaluate", str(folder), "--out", str(out), *words]) == 2
    assert f"{words[0]}" in capfd.readouterr().err
    assert not out.exists()


def test_a_truth_says_its_frames(folder: Path) -> None:
    frames = read_truth(folder / "first" / "truth.json").frames
    assert [frame.blank for frame in frames] == [n == BLANK for n in range(FRAMES)]
    np.testing.assert_allclose(frames[3].ct_to_world, true_pose(3))
    options = replace(EvaluationOptions(), start="start")
    assert tracks.run_and_start(folder / "first", options.start)[1] is not None
