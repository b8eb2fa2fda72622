"""One method case by case, and what the tables and plots make of it; a guest of the registry."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ball import CENTRE_CT, POSE, START, write_ball
from PIL import Image

from RadGSRegLib import cli
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.evaluation import Row, RunOptions, plots, run_methods, summary, tables
from RadGSRegLib.evaluation.measure import POINTS
from RadGSRegLib.geometry import Volume, compose_about
from RadGSRegLib.measures import mtre, target_points
from RadGSRegLib.methods import ENTRIES, About, Answer, FunctionMethod, Method, Settings, Task
from RadGSRegLib.system import Progress

ABOUT = About("optimize", "ours", "ours")
STRICT = RunOptions(volumes=False, refusal_fails=True, one_grid=False)


def answer(error_mm: float, status: str = "ok") -> Answer:
    """The truth, shifted by ``error_mm`` along the CT's x axis."""
    pose = compose_about(POSE, [0, 0, 0, error_mm, 0, 0], CENTRE_CT)
    quality = {"expected_error_mm": 0.5, "score": 0.7}
    return Answer(pose, 1.0, status=status, reason="because", quality=quality)  # type: ignore[arg-type]


def answering(answers: Iterable[Answer]) -> Method:
    """A method that gives these answers one after the other."""
    rest = iter(answers)
    return FunctionMethod(ABOUT, lambda task: next(rest))


def evaluate(
    folder: Path, solve: Callable[[Task], Answer] | Method, options: RunOptions = STRICT
) -> list[Row]:
    """The rows of one method on the cases of a folder."""
    method = FunctionMethod(ABOUT, solve) if callable(solve) else solve
    return list(run_methods(folder, [method], options).rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, realism in (("b", "hard"), ("a", "clean"), ("c", "hard")):
        write_ball(tmp_path / "cases" / name, realism=realism)
    (tmp_path / "cases" / "notes").mkdir()
    return tmp_path / "cases"


def test_each_case_once_by_name_with_its_errors(folder: Path) -> None:
    answers = iter([answer(0.3), answer(1.5, "uncertain"), answer(2.5)])
    starts = []

    def solve(task: Task) -> Answer:
        assert all(view.center_px for view in task.views)
        starts.append(task.given)
        return next(answers)

    rows = evaluate(folder, solve)
    assert [row.case for row in rows] == ["a", "b", "c"]
    assert [row.mtre_mm for row in rows] == pytest.approx([0.3, 1.5, 2.5])
    assert [row.is_silent_failure for row in rows] == [False, False, True]
    assert [row.is_false_alarm for row in rows] == [False, True, False]
    assert [row.is_warm for row in rows] == [False, True, True]
    assert starts == [None, None, None]
    # The clicks are off by 4.5 pixels or so, and the pose has a turn of 15 degrees.
    assert all(1.0 < row.start_mtre_mm < 8.0 for row in rows)  # type: ignore[operator]
    (whole,) = summary.summarize(rows, [ABOUT])
    assert whole.sr == pytest.approx(2 / 3)
    assert whole.smsr == pytest.approx(1 / 3)
    assert whole.silent_failures == 1
    assert whole.false_alarms == 1
    assert whole.contract()["mtre_mm"]["median"] == pytest.approx(1.5)
    parts = summary.by_realism(rows, ABOUT)
    assert parts["clean"].cases == 1
    assert parts["hard"].sr == pytest.approx(0.5)


def test_a_case_that_is_refused_counts_as_failed_and_the_others_go_on(folder: Path) -> None:
    def solve(task: Task) -> Answer:
        if task.name == "b":
            raise InputError("views", "show nothing")
        return answer(0.3)

    rows = evaluate(folder, solve)
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert "show nothing" in rows[1].reason
    # The vertebra stays where the clicks put it.
    assert rows[1].mtre_mm == rows[1].start_mtre_mm
    assert rows[1].mtre_mm is not None
    assert rows[1].mtre_mm > 0.0
    assert not rows[1].is_silent_failure
    (whole,) = summary.summarize(rows, [ABOUT])
    json.dumps(whole.contract(), allow_nan=False)
    json.dumps([tables.row_values(row, tables.CASE_COLUMNS) for row in rows], allow_nan=False)


def test_from_the_start_file_the_clicks_are_hidden(folder: Path) -> None:
    def solve(task: Task) -> Answer:
        case = task.needed_case()
        assert not any(view.center_px for view in (*task.views, *case.views))
        assert np.allclose(task.given, START)  # type: ignore[arg-type]
        points = target_points(case.labels, case.label, POINTS)
        expected.append(mtre(points, START, POSE))
        return answer(0.1)

    expected: list[float] = []
    rows = evaluate(folder, solve, replace(STRICT, start="start"))
    assert rows[0].start_mtre_mm == pytest.approx(expected[0])


def never(task: Task) -> Answer:
    raise AssertionError("nothing may be registered")


def test_a_bad_case_is_refused_before_any_work(folder: Path) -> None:
    (folder / "c" / "truth.json").write_text('{"ct_to_world": [[1, 2], [3, 4]]}')
    with pytest.raises(InputError, match=r"truth\.json"):
        evaluate(folder, never)
    (folder / "c" / "truth.json").unlink()
    with pytest.raises(InputError, match=r"no truth\.json"):
        evaluate(folder, never)


def test_folders_without_cases_are_refused(tmp_path: Path, folder: Path) -> None:
    for path in (tmp_path / "nowhere", folder / "notes", folder / "a" / "case.json"):
        with pytest.raises(InputError, match=path.name):
            evaluate(path, never)
    (folder / "a" / "start.json").unlink()
    with pytest.raises(InputError, match=r"no start\.json"):
        evaluate(folder, never, replace(STRICT, start="start"))


def test_one_case_alone_is_a_folder_of_cases_too(folder: Path) -> None:
    rows = evaluate(folder / "b", lambda _: answer(0.2))
    assert [row.case for row in rows] == ["b"]


def test_cancelling_stops_between_cases(folder: Path) -> None:
    told = []

    def asked(fraction: float, message: str) -> bool:
        told.append(fraction)
        return "2 of 3" not in message

    with pytest.raises(Cancelled):
        run_methods(folder, [answering([answer(0.2)])], STRICT, Progress(asked))
    assert told == sorted(told)


@pytest.fixture
def rows(folder: Path) -> list[Row]:
    timed = evaluate(folder, answering([answer(0.3), answer(1.5, "uncertain"), answer(2.5)]))
    return [replace(row, registration_s=3.0 + n) for n, row in enumerate(timed)]


def test_reconstructions_are_measured_against_the_true_pose(folder: Path) -> None:
    def perfect(task: Task) -> Answer:
        assert task.wants_volume
        ct = task.needed_case().ct
        volume = Volume(1.0 + ct.array / 1000.0, POSE @ ct.index_to_physical)
        return replace(answer(5.0), volume=volume)

    def elsewhere(task: Task) -> Answer:
        volume = Volume(np.ones((20, 20, 20)), np.eye(4) + 1e4 * np.eye(4, k=3))
        return replace(answer(5.0), volume=volume)

    def refusing(task: Task) -> Answer:
        raise InputError("views", "show nothing")

    (bare,) = run_methods(folder / "a", [ENTRIES["start"](Settings())], STRICT).rows
    assert bare.ssim is None
    wanted = replace(STRICT, volumes=True)
    (good,) = evaluate(folder / "a", perfect, wanted)
    assert good.ssim == pytest.approx(1.0, abs=1e-3)
    assert good.psnr_db is not None
    assert good.psnr_db > 40.0
    for solve in (elsewhere, refusing):
        (bad,) = evaluate(folder / "a", solve, wanted)
        assert (bad.ssim, bad.psnr_db) == (0.0, 0.0)
    (whole,) = summary.summarize([good, bad], [ABOUT])
    assert whole.contract()["ssim"]["mean"] == pytest.approx(0.5, abs=1e-3)
    text = tables.cases_markdown([good, bad], {"all": whole})
    assert "| SSIM | PSNR (dB) |" in text
    assert len({line.count("|") for line in text.split("\n\n")[0].splitlines()}) == 1


def test_run_time_leaves_out_the_cold_case(rows: list[Row]) -> None:
    assert summary.summarize(rows, [ABOUT])[0].contract()["rt_s"] == pytest.approx(4.5)
    assert summary.summarize(rows[:1], [ABOUT])[0].contract()["rt_s"] == pytest.approx(3.0)


def test_tables_say_the_same(rows: list[Row]) -> None:
    (whole,) = summary.summarize(rows, [ABOUT])
    lines = list(csv.DictReader(io.StringIO(tables.rows_csv(rows, tables.CASE_COLUMNS))))
    assert [float(line["mtre_mm"]) for line in lines] == pytest.approx([0.3, 1.5, 2.5])
    assert [line["silent_failure"] for line in lines] == ["0", "0", "1"]
    text = tables.cases_markdown(rows, {"all": whole})
    assert "| c | hard | optimize | center | ok | 2.50 |" in text
    assert "silent failure |" in text
    assert len({line.count("|") for line in text.split("\n\n")[0].splitlines()}) == 1
    assert len({line.count("|") for line in text.split("\n\n")[1].splitlines()}) == 1


def test_plots_are_pngs_and_the_same_every_time(rows: list[Row]) -> None:
    first = plots.case_plots(rows)
    assert set(first) == {
        "errors_by_case.png",
        "error_against_start.png",
        "reliability.png",
        "times.png",
    }
    for png in first.values():
        assert Image.open(io.BytesIO(png)).width > 400
    assert first == plots.case_plots(rows)
    bare = [replace(r, start_mtre_mm=None, expected_error_mm=None, status="") for r in rows]
    assert set(plots.case_plots(bare)) == {"errors_by_case.png", "times.png"}


class Toy:
    """A guest of the registry that knows the answer, and no more about the evaluator than that."""

    about = About("toy", "a toy", "baseline", facts={"off_mm": 1.5})

    def solve(self, task: Task) -> Answer:
        ct = task.needed_case().ct
        task.progress.pose(task.needed_start())
        task.progress(0.5, "playing")
        pose = compose_about(POSE, [0, 0, 0, 1.5, 0, 0], CENTRE_CT)
        return Answer(pose, 0.5, Volume(ct.array, pose @ ct.index_to_physical), status="uncertain")


def test_a_guest_is_one_entry_of_the_registry(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables, plots and panels of both with no edit of the evaluator."""
    monkeypatch.setitem(ENTRIES, "toy", lambda settings: Toy())
    out = tmp_path / "cases-out"
    words = ["evaluate", str(folder), "--device", "cpu"]
    assert cli.main([*words, "--method", "toy", "--reconstruct", "--out", str(out)]) == 0
    content = json.loads((out / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert content["summary"]["all"]["mtre_mm"]["mean"] == pytest.approx(1.5)
    assert content["summary"]["levels"]["hard"]["false_alarms"] == 2
    assert [trial["method"] for trial in content["trials"]] == ["toy"] * 3
    assert content["trials"][2]["false_alarm"] is True
    assert {path.suffix for path in out.iterdir()} == {".md", ".csv", ".json", ".png"}
    out = tmp_path / "paper-out"
    words += ["--protocol", "paper", "--method", "start,toy", "--draws", "1", "--out", str(out)]
    assert cli.main(words) == 0
    page = (out / "paper.md").read_text(encoding="utf-8")
    assert "| a toy |" in page
    assert "**1.50 ± 0.00**" in page
    names = {path.name for path in out.iterdir()}
    assert {"table1.csv", "runs.csv", "convergence.png", "reconstruction_a.png"} <= names
    assert len((out / "runs.csv").read_text().splitlines()) == 1 + 2 * 3 * 2


REFUSED = [
    (["start,toy"], "names several"),
    (["magic"], "there are start, voxels, gaussians, descent, optimize"),
    (["voxels"], "gives no pose"),
    (["descent", "--reconstruct"], "--reconstruct"),
]


@pytest.mark.parametrize(("words", "why"), REFUSED)
def test_methods_that_cannot_be_judged_case_by_case(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    why: str,
) -> None:
    monkeypatch.setitem(ENTRIES, "toy", lambda settings: Toy())
    out = tmp_path / "out"
    assert cli.main(["evaluate", str(folder), "--out", str(out), "--method", *words]) == 2
    assert why in capfd.readouterr().err
    assert not out.exists()


def test_x_rays_alone_are_a_task_too() -> None:
    task = Task("x-rays", views=())
    assert (task.given, task.wants_volume, task.seed) == (None, False, 0)
    for needed in (task.needed_case, task.needed_start, task.needed_centre):
        with pytest.raises(InputError, match="x-rays"):
            needed()
    with pytest.raises(InputError, match="x-rays: has no start"):
        ENTRIES["voxels"](Settings()).solve(task)
