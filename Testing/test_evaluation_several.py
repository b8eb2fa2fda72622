"""Several vertebrae of each case, registered together, against the truth of each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from RadGSRegLib import cli
from RadGSRegLib.cases import Case
from RadGSRegLib.errors import InputError
from RadGSRegLib.evaluation import EvaluationOptions, several, several_rows, write_several
from RadGSRegLib.geometry import Array, compose_about
from RadGSRegLib.methods import Task
from RadGSRegLib.multilevel import SpineRegistration
from RadGSRegLib.registration import Registration
from RadGSRegLib.simulation import SimulationParameters, simulate_phantom_case, write_simulated_case
from RadGSRegLib.system import Progress

PARAMETERS = SimulationParameters.preset("clean").with_field(250.0, 61)
WANTED = "L2,L3,L4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small cases of the phantom's trunk."""
    folder = tmp_path_factory.mktemp("several")
    for name, seed in (("a", 81701), ("b", 81702)):
        case = simulate_phantom_case(seed, PARAMETERS, spacing_mm=3.0, field="trunk")
        write_simulated_case(case, folder / name)
    return folder


def truths(folder: Path, case: str) -> dict[int, Array]:
    content = json.loads((folder / case / "truth.json").read_text())
    poses = {**content["neighbours"], content["label"]: content["ct_to_world"]}
    return {int(label): np.array(pose) for label, pose in poses.items()}


class Together:
    """Stands in for the registration: the truth, off by as much as is said of each label."""

    def __init__(self, folder: Path, errors_mm: dict[int, float], absent: Sequence[int] = ()):
        self.folder, self.errors_mm, self.absent = folder, errors_mm, absent
        self.asked: list[list[int]] = []

    def __call__(
        self, case: Case, labels: Sequence[int], task: Task, progress: Progress
    ) -> SpineRegistration:
        self.asked.append(list(labels))
        true = truths(self.folder, task.name)
        levels = {}
        for label in sorted(labels):
            if label in self.absent:
                continue
            centre = replace(case, label=label).centre_ct
            shift = [0.0, 0.0, 0.0, self.errors_mm[label], 0.0, 0.0]
            levels[label] = Registration(
                ct_to_world=compose_about(true[label], shift, centre),
                covariance=np.eye(6),
                status="ok",
                reason="because",
                centre_ct=centre,
                quality={"expected_error_mm": 0.5, "score": 0.9},
                timing_s={"total": 1.0},
                seed=0,
                parameters={},
            )
        left_out = dict.fromkeys(self.absent, "AP shows 12 % of it")
        joint = np.eye(6 * len(levels))
        return SpineRegistration(case, levels, case.label, joint, {"total": 1.0}, left_out)


def rows_of(folder: Path, solve: Together, wanted: str = WANTED) -> list[several.Row]:
    return several_rows(folder, wanted, EvaluationOptions(), Progress(), solve)


def test_each_vertebra_is_held_against_its_own_truth(folder: Path) -> None:
    solve = Together(folder, {21: 0.2, 22: 0.8, 23: 2.5})
    rows = rows_of(folder, solve)
    assert [(row.case, row.vertebra) for row in rows] == [
        (case, name) for case in "ab" for name in ("L2", "L3", "L4")
    ]
    assert [row.mtre_mm for row in rows] == pytest.approx([0.2, 0.8, 2.5] * 2, abs=1e-6)
    assert [row.is_silent_failure for row in rows] == [False, False, True] * 2
    assert [row.is_warm for row in rows] == [False] * 3 + [True] * 3
    # The case's own vertebra comes first.
    assert solve.asked == [[22, 21, 23]] * 2
    # The start puts every vertebra where the clicked one's is put, so all of them are off.
    assert min(row.start_mtre_mm or 0.0 for row in rows) > 0.1


def test_what_is_not_shown_is_no_failure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solve = Together(folder, {22: 0.3, 23: 1.4}, absent=[21])
    rows = rows_of(folder, solve)
    assert [row.left_out for row in rows] == [False, False, True] * 2
    assert (rows[2].vertebra, rows[2].mtre_mm) == ("L2", None)

    def stand_in(case: Case, labels: Sequence[int], *args: object, **kinds: object) -> object:
        name = next(n for n in "ab" if np.array_equal(truths(folder, n)[22], known[id(case)]))
        return solve(case, labels, Task(name, case.views, case), Progress())

    known: dict[int, Array] = {}
    asked = several._known

    def remembered(path: Path, *args: object) -> object:
        one = asked(path, *args)  # type: ignore[arg-type]
        known[id(one.task.case)] = truths(folder, path.name)[22]
        return one

    monkeypatch.setattr(several, "_known", remembered)
    monkeypatch.setattr(several, "register_vertebrae", stand_in)
    report = write_several(folder, tmp_path, EvaluationOptions(), WANTED)
    assert list(report.summaries) == ["L3", "L4", "clean", "all"]
    content = json.loads((tmp_path / "evaluation.json").read_text())
    summary = content["summary"]
    assert (summary["all"]["cases"], summary["left_out"]) == (4, 2)
    assert summary["vertebrae"]["L3"]["mtre_mm"]["median"] == pytest.approx(0.3, abs=1e-5)
    assert summary["vertebrae"]["L3"]["within_twice_expected"] == 1.0
    assert summary["vertebrae"]["L4"]["within_twice_expected"] == 0.0
    assert summary["all"]["within_twice_expected"] == 0.5
    assert summary["all"]["smsr"] == 0.5
    assert content["parameters"]["labels"] == WANTED
    lines = list(csv.DictReader(io.StringIO((tmp_path / "evaluation.csv").read_text())))
    assert [line["vertebra"] for line in lines] == ["L3", "L4", "L2"] * 2
    assert lines[2]["left_out"] == "1"
    text = (tmp_path / "evaluation.md").read_text()
    assert "| L4 | 2 | 1.40 |" in text
    assert "left out: AP shows 12 % of it" in text
    for name in ("errors_by_case", "times", "reliability", "error_against_start"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_a_case_that_is_refused_fails_with_all_its_vertebrae(folder: Path) -> None:
    def refuse(*args: object) -> SpineRegistration:
        raise InputError("views", "show nothing")

    rows = several_rows(folder, WANTED, EvaluationOptions(), Progress(), refuse)
    assert {row.status for row in rows} == {"failed"}
    assert {row.reason for row in rows} == {"views: show nothing"}
    for row in rows:
        assert row.mtre_mm == row.start_mtre_mm


def test_a_vertebra_without_a_truth_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cases" / "a"
    copy.mkdir(parents=True)
    for path in (folder / "a").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    truth = json.loads((copy / "truth.json").read_text())
    del truth["neighbours"]["21"]
    (copy / "truth.json").write_text(json.dumps(truth))
    solve = Together(folder, dict.fromkeys(range(15, 30), 0.1))
    with pytest.raises(InputError, match="has no true pose of L2"):
        rows_of(tmp_path / "cases", solve)
    assert solve.asked == []
    every = [row.vertebra for row in rows_of(tmp_path / "cases", solve, "all")]
    assert "L2" not in every
    assert {"L1", "L3", "L4", "L5"} <= set(every)
    truth["neighbours"]["21"] = [[1.0]]
    (copy / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(InputError, match='"neighbours" holds a pose that is not a rigid'):
        rows_of(tmp_path / "cases", solve)


@pytest.mark.parametrize(
    "more",
    [["--method", "optimize"], ["--reconstruct"], ["--protocol", "paper"], ["--model", "m"]],
)
def test_what_is_of_one_target_is_refused(
    folder: Path, tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(folder), "--out", str(tmp_path / "out"), "--labels", "all", *more]
    assert cli.main(words) == 2
    assert "--labels: cannot go with" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_measures_real_registrations(tmp_path: Path) -> None:
    parameters = SimulationParameters.preset("realistic").with_field(250.0, 244)
    case = simulate_phantom_case(81703, parameters, spacing_mm=2.0, field="trunk")
    write_simulated_case(case, tmp_path / "cases" / "a")
    out = tmp_path / "out"
    words = ["evaluate", str(tmp_path / "cases"), "--out", str(out), "--labels", "L3,L4"]
    assert cli.main(words) == 0
    trials = json.loads((out / "evaluation.json").read_text())["trials"]
    assert [trial["vertebra"] for trial in trials] == ["L3", "L4"]
    assert max(trial["mtre_mm"] for trial in trials) < 1.0
