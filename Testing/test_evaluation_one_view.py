"""Cases of one X-ray alone: errors across and along the line of sight, and what was expected."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ball import CENTRE_CT, POSE, write_ball
from PIL import Image

from RadGSRegLib import cli
from RadGSRegLib.cases import read_case
from RadGSRegLib.errors import InputError
from RadGSRegLib.evaluation import EvaluationOptions, Row, RunOptions, run_methods, write_several
from RadGSRegLib.evaluation.one_view import one_view_of, one_view_parts
from RadGSRegLib.geometry import Array, transform_points
from RadGSRegLib.methods import ENTRIES, About, Answer, FunctionMethod, Task

ABOUT = About("optimize", "ours", "ours")
ALONE = RunOptions(start="start", volumes=False, refusal_fails=True, one_grid=False, one_view=True)


def off(task: Task, along_mm: float, across_mm: float) -> Array:
    """The true pose, shifted along and across the beam of a task's only view."""
    (view,) = task.views
    beam = transform_points(POSE, CENTRE_CT[None])[0] - view.camera.source_world
    beam /= np.linalg.norm(beam)
    across = np.cross(beam, [0.3, 0.4, 0.5])
    pose = POSE.copy()
    pose[:3, 3] += along_mm * beam + across_mm * across / np.linalg.norm(across)
    return pose


def solve(task: Task) -> Answer:
    """6 mm along and 0.5 mm across, where the lateral view expects too little of the depth."""
    depth_mm = 4.0 if task.views[0].name == "AP" else 2.5
    quality = {"expected_error_mm": 5.0, "in_plane_error_mm": 0.6, "depth_error_mm": depth_mm}
    return Answer(off(task, 6.0, 0.5), 1.0, status="uncertain", reason="one", quality=quality)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, realism in (("a", "clean"), ("b", "hard")):
        write_ball(tmp_path / "cases" / name, realism=realism)
    return tmp_path / "cases"


def without_lateral(case: Path) -> None:
    """Leave a case one X-ray."""
    path = case / "views.json"
    content = json.loads(path.read_text())
    del content["views"][1:]
    path.write_text(json.dumps(content))


def test_every_view_is_a_case_of_its_own(folder: Path) -> None:
    asked: list[tuple[str, ...]] = []

    def noting(task: Task) -> Answer:
        assert task.given is not None
        assert task.needed_case().views == task.views
        asked.append(tuple(view.name for view in task.views))
        return solve(task)

    rows = run_methods(folder, [FunctionMethod(ABOUT, noting)], ALONE).rows
    assert [row.case for row in rows] == ["a/AP", "a/LA", "b/AP", "b/LA"]
    assert asked == [("AP",), ("LA",)] * 2
    assert [row.in_plane_error_mm for row in rows] == pytest.approx([0.5] * 4)
    assert [row.depth_error_mm for row in rows] == pytest.approx([6.0] * 4)
    assert [row.expected_depth_mm for row in rows] == [4.0, 2.5] * 2
    assert [row.is_warm for row in rows] == [False, True, True, True]


def test_what_was_expected_is_held_against_what_came(folder: Path) -> None:
    rows = run_methods(folder, [FunctionMethod(ABOUT, solve)], ALONE).rows
    said = one_view_of(rows)
    assert said is not None
    assert said.cases == 4
    assert said.in_plane.median_mm == pytest.approx(0.5)
    assert (said.in_plane.within_expected, said.in_plane.within_twice) == (1.0, 1.0)
    assert said.depth.expected_median_mm == pytest.approx(3.25)
    assert (said.depth.within_expected, said.depth.within_twice) == (0.0, 0.5)
    silent = [replace(row, expected_in_plane_mm=None, expected_depth_mm=None) for row in rows]
    unsaid = one_view_of(silent)
    assert unsaid is not None
    assert unsaid.depth.median_mm == pytest.approx(6.0)
    assert unsaid.depth.within_twice is None
    two_views = Row("c", "clean", "optimize", mtre_mm=0.2)
    assert one_view_of([two_views]) is None
    assert one_view_parts({"one": [*rows, two_views], "two": [two_views]}) == {"one": said}


def test_tables_pages_and_json_say_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ENTRIES, "toy", lambda settings: FunctionMethod(ABOUT_TOY, solve))
    out = tmp_path / "out"
    words = ["evaluate", str(folder), "--method", "toy", "--one-view", "--device", "cpu"]
    assert cli.main([*words, "--out", str(out)]) == 0
    said = capfd.readouterr().out
    assert "SMSR 0 %" in said
    assert "of one X-ray alone, medians: in-plane 0.50 mm, depth 6.00 mm" in said
    content = json.loads((out / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert content["parameters"]["one_view"] is True
    assert content["parameters"]["start"] == "start"
    assert content["summary"]["all"]["one_view"]["depth_within_twice"] == 0.5
    assert content["summary"]["levels"]["hard"]["one_view"]["cases"] == 2
    assert content["trials"][0]["in_plane_error_mm"] == pytest.approx(0.5)
    lines = list(csv.DictReader(io.StringIO((out / "evaluation.csv").read_text())))
    assert [float(line["depth_error_mm"]) for line in lines] == pytest.approx([6.0] * 4)
    assert [line["expected_depth_mm"] for line in lines] == ["4", "2.5"] * 2
    text = (out / "evaluation.md").read_text()
    assert "| all | 4 | 0.50 | 0.60 | 100 % | 100 % | 6.00 | 3.25 | 0 % | 50 % |" in text
    assert "| b/LA | uncertain | 0.50 | 0.60 | 6.00 | 2.50 |" in text
    for table in text.strip().split("\n\n"):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert Image.open(out / "one_view.png").width > 400


ABOUT_TOY = About("toy", "a toy", "baseline")


def test_a_case_of_one_view_is_read_beside_others(folder: Path) -> None:
    without_lateral(folder / "a")
    with pytest.raises(InputError, match="at least two"):
        read_case(folder / "a")
    assert [view.name for view in read_case(folder / "a", least=1).views] == ["AP"]

    def either(task: Task) -> Answer:
        return solve(task) if len(task.views) == 1 else Answer(POSE, 1.0, status="ok")

    method = FunctionMethod(ABOUT, either)
    rows = run_methods(folder, [method], replace(ALONE, one_view=False)).rows
    assert [row.case for row in rows] == ["a", "b"]
    assert rows[0].depth_error_mm == pytest.approx(6.0)
    assert rows[1].depth_error_mm is None
    with pytest.raises(InputError, match="fewer than two views with a center_px"):
        run_methods(folder, [method], replace(ALONE, one_view=False, start="center"))
    for one_view in (True, False):
        with pytest.raises(InputError, match="shows no volume"):
            run_methods(folder, [method], replace(ALONE, one_view=one_view, volumes=True))
    with pytest.raises(InputError, match="several vertebrae need two or more"):
        write_several(folder, folder, EvaluationOptions(start="start"), "all")


def test_a_refused_view_stays_where_it_began(folder: Path) -> None:
    def refusing(task: Task) -> Answer:
        raise InputError("views", "show nothing")

    row = run_methods(folder, [FunctionMethod(ABOUT, refusing)], ALONE).rows[0]
    assert (row.status, row.expected_depth_mm) == ("failed", None)
    assert row.mtre_mm == row.start_mtre_mm
    assert row.in_plane_error_mm is not None
    assert row.in_plane_error_mm > 1.0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--start", "center"], "a click in one X-ray does not say how far away the bone is"),
        (["--labels", "L3"], "--labels"),
        (["--protocol", "paper"], "--protocol paper"),
        (["--reconstruct"], "--reconstruct"),
        (["--model", "x.safetensors"], "--model"),
    ],
)
def test_what_does_not_go_with_one_view(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    out = tmp_path / "out"
    assert cli.main(["evaluate", str(folder), "--one-view", "--out", str(out), *words]) == 2
    assert why in capfd.readouterr().err
    assert not out.exists()
