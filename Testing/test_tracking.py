"""A bone is followed through small runs: found, lost and found again, and never wrongly `ok`."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import registration_scenes
import tifffile
from registration_scenes import QUICK, TARGET, one_thread, phantom

from RadGSRegLib.cases import (
    OutputFolder,
    TrackRecord,
    read_run,
    read_track_json,
    refuse_strangers,
    run_of,
)
from RadGSRegLib.cli import main
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import transform_points
from RadGSRegLib.report import write_track_results
from RadGSRegLib.simulation import (
    Motion,
    SimulatedRun,
    SimulationParameters,
    simulate_run,
    write_simulated_run,
)
from RadGSRegLib.system import Progress
from RadGSRegLib.tracking import Track, TrackOptions, track_case
from RadGSRegLib.tracking.types import rank_of

FRAMES, BLANK = 9, (4, 6)
OPTIONS = TrackOptions(QUICK)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


@lru_cache(maxsize=1)
def simulated() -> SimulatedRun:
    """A clean run of 9 small frames, of which two are blank."""
    built = phantom()
    parameters = replace(
        SimulationParameters.preset("clean"),
        size_px=200,
        pixel_mm=1.5,
        center_px=4.0,
        spine_deg=6.0,
        start_deg=6.0,
        start_mm=8.0,
    )
    motion = Motion(FRAMES, 5.0, 3.0, BLANK)
    return simulate_run(
        built.ct, built.labels, TARGET, motion, parameters, 5, label_names=built.label_names
    )


@lru_cache(maxsize=1)
def pictures() -> list[list[np.ndarray]]:
    run = simulated()
    return [[frame[view.name] for view in run.case.views] for frame in run.pictures()]


@lru_cache(maxsize=1)
def followed() -> Track:
    """The run with noise alone in place of one of its blank frames."""
    frames = list(pictures())
    noise = np.random.default_rng(0)
    frames[BLANK[0]] = [noise.random(p.shape).astype(np.float32) for p in frames[0]]
    times = [0.1 * n for n in range(FRAMES)]
    return track_case(run_of(simulated().case, frames, times), options=OPTIONS)


def errors_mm(track: Track, smoothed: bool = False) -> dict[int, float]:
    truth = simulated().truth
    points = np.array(truth["points_ct"])
    out = {}
    for frame in track.frames:
        pose = frame.smoothed_ct_to_world if smoothed else frame.ct_to_world
        if pose is not None:
            true = np.array(truth["frames"][frame.index]["ct_to_world"])
            apart = transform_points(pose, points) - transform_points(true, points)
            out[frame.index] = float(np.linalg.norm(apart, axis=1).mean())
    return out


def test_the_simulated_bone_moves_as_fast_as_asked() -> None:
    truth = simulated().truth
    poses = [np.array(frame["ct_to_world"]) for frame in truth["frames"]]
    centres = np.array([transform_points(p, np.array(truth["pivot_ct"])) for p in poses])
    assert np.linalg.norm(np.diff(centres, axis=0), axis=1).max() == pytest.approx(5.0, rel=0.02)
    assert [bool(f["blank"]) for f in truth["frames"]] == [4 <= n < 6 for n in range(FRAMES)]
    assert np.ptp(pictures()[4][0]) == 0.0


def test_every_frame_with_a_picture_is_ok_and_right() -> None:
    track = followed()
    shown = [n for n in range(FRAMES) if not BLANK[0] <= n < BLANK[1]]
    assert [f.index for f in track.frames if f.status == "ok"] == shown
    assert track.status == "ok"
    errors = errors_mm(track)
    assert sorted(errors) == shown
    assert max(errors.values()) < 1.0
    assert track.frames[3].time_s == pytest.approx(0.3)


def test_blank_frames_are_never_measured_and_say_how_unsure_they_are() -> None:
    track = followed()
    gap = track.frames[BLANK[0] : BLANK[1]]
    assert {frame.found for frame in gap} == {"no picture"}
    assert {frame.status for frame in gap} == {"failed"}
    assert all(frame.ct_to_world is None and frame.covariance is None for frame in gap)
    measured = [f.smoothed_error_mm for f in track.frames if f.status == "ok"]
    assert min(f.smoothed_error_mm for f in gap) > 2.0 * np.median(measured)
    for frame in gap:
        assert errors_mm(track, smoothed=True)[frame.index] < 3.5 * frame.smoothed_error_mm
    assert "without a picture: 4 to 5" in track.reason


def test_a_bone_that_is_gone_is_not_ok_and_is_found_again() -> None:
    """Pictures of nothing but smooth shading, which are pictures all the same."""
    frames = list(pictures())
    rows, columns = frames[0][0].shape
    shade = np.linspace(0.2, 2.0, rows * columns).reshape(rows, columns).astype(np.float32)
    shade += 0.01 * np.random.default_rng(1).random(shade.shape).astype(np.float32)
    frames = [frames[0], frames[1], [shade, shade.T.copy()], frames[3]]
    track = track_case(run_of(simulated().case, frames), options=OPTIONS)
    assert track.frames[2].status != "ok"
    assert [track.frames[n].status for n in (0, 1, 3)] == ["ok"] * 3
    assert max(errors_mm(track)[n] for n in (0, 1, 3)) < 1.0
    assert track.status != "ok"


def test_one_plane_is_never_ok_and_says_what_it_does_not_hold() -> None:
    run = simulated()
    case = replace(run.case, views=run.case.views[:1])
    frames = [frame[:1] for frame in pictures()[:3]]
    with pytest.raises(InputError, match="one plane"):
        track_case(run_of(case, frames), options=OPTIONS)
    start = np.array(run.truth["ct_to_world"])
    track = track_case(run_of(case, frames), start, OPTIONS)
    assert all(frame.status != "ok" for frame in track.frames)
    for frame in track.frames:
        assert frame.evidence["depth_error_mm"] > 10.0 > 1.0 > frame.evidence["in_plane_error_mm"]
        assert frame.expected_error_mm is not None
        assert min(frame.expected_error_mm, frame.smoothed_error_mm) > 10.0
    assert "does not hold the depth" in track.frames[0].reason


def test_files_are_whole_and_read_back(tmp_path: Path) -> None:
    track = followed()
    run = run_of(simulated().case, pictures())
    with OutputFolder(tmp_path / "out") as stage:
        write_track_results(stage, run, track.to_record())
    out = tmp_path / "out"
    record = read_track_json(out / "track.json")
    assert isinstance(record, TrackRecord)
    assert (record.status, record.reason) == (track.status, track.reason)
    np.testing.assert_allclose(record.frames[2].covariance, track.frames[2].covariance)
    assert len((out / "track.csv").read_text().splitlines()) == FRAMES + 1
    assert len(list((out / "frames").iterdir())) == FRAMES
    page = (out / "report.html").read_text()
    assert "data:image/webp" in page
    assert "8 of" not in record.reason
    refuse_strangers(out)
    (out / "frames" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="frames"):
        refuse_strangers(out)
    changed = json.loads((out / "track.json").read_text())
    changed["status"] = "failed"
    (out / "track.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="worst"):
        read_track_json(out / "track.json")


def test_the_command_from_simulated_files_to_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_simulated_run(simulated(), tmp_path / "case")
    assert read_run(tmp_path / "case" / "case.json").frames == FRAMES
    monkeypatch.setattr("RadGSRegLib.registration.registration_options", lambda *_, **__: QUICK)
    out = tmp_path / "out"
    command = ["track", str(tmp_path / "case"), "--out", str(out), "--frames", "0:2"]
    assert main(command) == 0
    assert len(read_track_json(out / "track.json").frames) == 3
    # An earlier run's poses of frames that this one does not have go.
    assert main([*command[:-1], "0:1"]) == 0
    assert len(list((out / "frames").iterdir())) == 2
    capsys.readouterr()
    assert main([*command[:-1], "3:20"]) == 2
    assert "the run has 0 to 8" in capsys.readouterr().err
    assert main(["register", str(tmp_path / "case"), "--out", str(tmp_path / "no")]) == 2
    assert "radgsreg track" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    still = tmp_path / "case" / "ap" / "0003.tif"
    tifffile.imwrite(still, np.zeros((5, 5), np.float32))
    assert main(command[:-2] + ["--frames", "2:3", "--out", str(tmp_path / "bad")]) == 2
    assert "0003.tif" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


def test_a_cancel_ends_it() -> None:
    said: list[str] = []

    def hear(fraction: float, message: str) -> bool:
        said.append(message)
        return "frame 2" not in message

    run = run_of(simulated().case, pictures())
    with pytest.raises(Cancelled):
        track_case(run, options=OPTIONS, progress=Progress(hear))
    assert any("frame 1" in message for message in said)


def test_simulate_refuses_what_does_not_go_with_a_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "x")]
    assert main(["simulate", "--motion-mm", "3", *out]) == 2
    assert main(["simulate", "--frames", "5", "--beads", "helix", *out]) == 2
    assert main(["simulate", "--frames", "5", "--blank", "3:9", *out]) == 2
    said = capsys.readouterr().err
    assert "--motion-mm" in said
    assert "--beads" in said
    assert "cannot be blank" in said
    assert registration_scenes.TARGET == TARGET


def test_a_better_status_ranks_higher() -> None:
    assert rank_of("ok") > rank_of("uncertain") > rank_of("failed")
