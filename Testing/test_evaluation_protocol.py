"""Running over folders of cases with truth, and what the tables and plots make of it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ball import CENTRE_CT, POSE, START, write_ball
from PIL import Image

from RadGSRegLib.cases import Case, write_json
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.evaluation import plots, protocol, tables
from RadGSRegLib.geometry import Volume, compose_about
from RadGSRegLib.measures import pose as metrics
from RadGSRegLib.registration.types import Registration
from RadGSRegLib.system.progress import Progress


def answer(error_mm: float, status: str = "ok") -> Registration:
    """The truth, shifted by ``error_mm`` along the CT's x axis."""
    pose = compose_about(POSE, [0, 0, 0, error_mm, 0, 0], CENTRE_CT)
    quality = {"expected_error_mm": 0.5, "score": 0.7}
    return Registration(
        status,  # type: ignore[arg-type]
        "because",
        pose,
        np.eye(6),
        CENTRE_CT,
        quality,
        {"total": 1.0},
        {},
        0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, level in (("b", "hard"), ("a", "clean"), ("c", "hard")):
        write_ball(tmp_path / "cases" / name, level=level)
    (tmp_path / "cases" / "notes").mkdir()
    return tmp_path / "cases"


def test_each_case_once_by_name_with_its_errors(folder: Path) -> None:
    answers = iter([answer(0.3), answer(1.5, "uncertain"), answer(2.5)])
    starts = []

    def register(case: Case, start: np.ndarray | None, progress: Progress) -> Registration:
        assert all(view.center_px for view in case.views)
        starts.append(start)
        return next(answers)

    trials = protocol.evaluate(folder, register)
    assert [t.case for t in trials] == ["a", "b", "c"]
    assert [t.mtre_mm for t in trials] == pytest.approx([0.3, 1.5, 2.5])
    assert [t.is_silent_failure for t in trials] == [False, False, True]
    assert [t.is_false_alarm for t in trials] == [False, True, False]
    assert [t.is_warm for t in trials] == [False, True, True]
    assert starts == [None, None, None]
    # The clicks are off by 4.5 pixels or so, and the pose has a turn of 15 degrees.
    assert all(1.0 < t.start_mtre_mm < 8.0 for t in trials)  # type: ignore[operator]
    summary = protocol.summarize(trials)
    assert summary["all"]["sr"] == pytest.approx(2 / 3)
    assert summary["all"]["smsr"] == pytest.approx(1 / 3)
    assert summary["all"]["silent_failures"] == 1
    assert summary["all"]["false_alarms"] == 1
    assert summary["all"]["mtre_mm"]["median"] == pytest.approx(1.5)
    assert summary["levels"]["clean"]["cases"] == 1
    assert summary["levels"]["hard"]["sr"] == pytest.approx(0.5)


def test_a_case_that_is_refused_counts_as_failed_and_the_others_go_on(folder: Path) -> None:
    answers = iter([answer(0.3), InputError("views", "show nothing"), answer(0.4)])

    def register(case: Case, start: np.ndarray | None, progress: Progress) -> Registration:
        found = next(answers)
        if isinstance(found, InputError):
            raise found
        return found

    trials = protocol.evaluate(folder, register)
    assert [t.status for t in trials] == ["ok", "failed", "ok"]
    assert "show nothing" in trials[1].reason
    # The vertebra stays where the clicks put it.
    assert trials[1].mtre_mm == trials[1].start_mtre_mm > 0.0
    assert not trials[1].is_silent_failure
    summary = protocol.summarize(trials)
    json.dumps(tables.json_content(trials, summary), allow_nan=False)


def test_from_the_start_file_the_clicks_are_hidden(folder: Path) -> None:
    def register(case: Case, start: np.ndarray | None, progress: Progress) -> Registration:
        assert not any(view.center_px for view in case.views)
        assert np.allclose(start, START)
        return answer(0.1)

    trials = protocol.evaluate(folder, register, start="start")
    points = metrics.surface_points(*ball_labels(folder), protocol.POINTS)
    assert trials[0].start_mtre_mm == pytest.approx(metrics.mtre(points, START, POSE))


def ball_labels(folder: Path) -> tuple:
    case = protocol.read_case(folder / "a" / "case.json")
    return case.labels, case.label


def never(case: Case, start: np.ndarray | None, progress: Progress) -> Registration:
    raise AssertionError("nothing may be registered")


def test_a_bad_case_is_refused_before_any_work(folder: Path) -> None:
    (folder / "c" / "truth.json").write_text('{"ct_to_world": [[1, 2], [3, 4]]}')
    with pytest.raises(InputError, match=r"truth\.json"):
        protocol.evaluate(folder, never)
    (folder / "c" / "truth.json").unlink()
    with pytest.raises(InputError, match=r"no truth\.json"):
        protocol.evaluate(folder, never)


def test_folders_without_cases_are_refused(tmp_path: Path, folder: Path) -> None:
    for path in (tmp_path / "nowhere", folder / "notes", folder / "a" / "case.json"):
        with pytest.raises(InputError, match=path.name):
            protocol.evaluate(path, never)
    (folder / "a" / "start.json").unlink()
    with pytest.raises(InputError, match=r"no start\.json"):
        protocol.evaluate(folder, never, start="start")


def test_one_case_alone_is_a_folder_of_cases_too(folder: Path) -> None:
    trials = protocol.evaluate(folder / "b", lambda *_: answer(0.2))
    assert [t.case for t in trials] == ["b"]


def test_cancelling_stops_between_cases(folder: Path) -> None:
    seen = []

    def asked(fraction: float, message: str) -> bool:
        seen.append(fraction)
        return "2 of 3" not in message

    with pytest.raises(Cancelled):
        protocol.evaluate(folder, lambda *_: answer(0.2), progress=Progress(asked))
    assert seen == sorted(seen)


@pytest.fixture
def trials(folder: Path) -> list[protocol.Trial]:
    answers = iter([answer(0.3), answer(1.5, "uncertain"), answer(2.5)])
    timed = protocol.evaluate(folder, lambda *_: next(answers))
    return [replace(trial, time_s=3.0 + n) for n, trial in enumerate(timed)]


def test_reconstructions_are_measured_against_the_true_pose(folder: Path) -> None:
    def perfect(case: Case, found: Registration, progress: Progress) -> Volume:
        return Volume(1.0 + case.ct.array / 1000.0, POSE @ case.ct.index_to_physical)

    def elsewhere(case: Case, found: Registration, progress: Progress) -> Volume:
        return Volume(np.ones((20, 20, 20)), np.eye(4) + 1e4 * np.eye(4, k=3))

    (good,) = protocol.evaluate(folder / "a", lambda *_: answer(5.0), reconstruct=perfect)
    assert good.ssim == pytest.approx(1.0, abs=1e-3)
    assert good.psnr_db is not None
    assert good.psnr_db > 40.0
    (bad,) = protocol.evaluate(folder / "a", lambda *_: answer(5.0), reconstruct=elsewhere)
    assert (bad.ssim, bad.psnr_db) == (0.0, 0.0)
    summary = protocol.summarize([good, bad])
    assert summary["all"]["ssim"]["mean"] == pytest.approx(0.5, abs=1e-3)
    text = tables.markdown([good, bad], summary)
    assert "| SSIM | PSNR (dB) |" in text
    assert len({line.count("|") for line in text.split("\n\n")[0].splitlines()}) == 1


def test_run_time_leaves_out_the_cold_case(trials: list[protocol.Trial]) -> None:
    assert protocol.summarize(trials)["all"]["rt_s"] == pytest.approx(4.5)
    assert protocol.summarize(trials[:1])["all"]["rt_s"] == pytest.approx(3.0)


def test_tables_say_the_same(trials: list[protocol.Trial], tmp_path: Path) -> None:
    summary = protocol.summarize(trials)
    rows = list(csv.DictReader(io.StringIO(tables.csv_text(trials))))
    assert [float(row["mtre_mm"]) for row in rows] == pytest.approx([0.3, 1.5, 2.5])
    assert [row["silent_failure"] for row in rows] == ["0", "0", "1"]
    text = tables.markdown(trials, summary)
    assert "| c | hard | optimize | center | ok | 2.50 |" in text
    assert "silent failure |" in text
    assert len({line.count("|") for line in text.split("\n\n")[0].splitlines()}) == 1
    assert len({line.count("|") for line in text.split("\n\n")[1].splitlines()}) == 1
    path = tmp_path / "evaluation.json"
    write_json(tables.json_content(trials, summary), path)
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert content["trials"][2]["silent_failure"] is True
    assert content["summary"]["all"]["sr"] == pytest.approx(2 / 3)


def test_plots_are_pngs_and_the_same_every_time(trials: list[protocol.Trial]) -> None:
    first = plots.all_plots(trials)
    assert set(first) == {
        "errors_by_case.png",
        "error_against_start.png",
        "reliability.png",
        "times.png",
    }
    for png in first.values():
        assert Image.open(io.BytesIO(png)).width > 400
    assert first == plots.all_plots(trials)
    bare = [replace(t, start_mtre_mm=None, expected_error_mm=None) for t in trials]
    assert set(plots.all_plots(bare)) == {"errors_by_case.png", "times.png"}
