"""The result folder: every file of the contract, and the exit status that goes with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from ball import CENTRE_CT, POSE, RADIUS, ball_case, write_ball

from RadGSRegLib import cli, pipeline
from RadGSRegLib.cases import Case, read_registration_json
from RadGSRegLib.gaussians import GaussianCloud
from RadGSRegLib.geometry import Volume, exp_se3, transform_points
from RadGSRegLib.registration.types import Registration
from RadGSRegLib.report.results import write_results

FILES = [
    "ct_to_world.tfm",
    "gaussians.ply",
    "overlay_AP.png",
    "overlay_LA.png",
    "reconstruction.nii.gz",
    "registration.json",
    "report.html",
]


def result(status: str = "ok", pose: np.ndarray = POSE) -> pipeline.PipelineResult:
    """What the pipeline would say of the ball, with a perfect reconstruction of it."""
    centre = transform_points(POSE, CENTRE_CT[None])[0]
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    grid[:3, 3] = centre - 2.0 * 15
    k, j, i = np.mgrid[:31, :31, :31] - 15
    inside = (i**2 + j**2 + k**2) * 4.0 < RADIUS**2
    volume = Volume(np.where(inside, 0.033, 0.0214).astype(np.float32), grid)
    cloud = GaussianCloud(
        torch.tensor(centre[None], dtype=torch.float32),
        torch.full((1, 3), 9.0),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.tensor([0.03]),
    )
    registration = Registration(
        status,  # type: ignore[arg-type]
        "because",
        pose,
        np.eye(6) * 0.01,
        CENTRE_CT,
        {"score": 0.7, "expected_error_mm": 0.6, "views": {"AP": {"score": 0.7}}},
        {"search": 1.0, "total": 1.5},
        {"levels": (4, 2)},
        3,
        ran_on={"search": "cuda:0 (a card)"},
    )
    points = CENTRE_CT + RADIUS * np.eye(3)
    timing = {"search": 1.0, "reconstruct": 0.5, "total": 2.0}
    ran_on = {**registration.ran_on, "reconstruct": "cuda:0 (a card)"}
    return pipeline.PipelineResult(
        registration, cloud, volume, points, timing, {"views": 2}, ran_on
    )


def test_every_file_of_the_contract(tmp_path: Path) -> None:
    case = ball_case()
    figures = write_results(tmp_path, case, result(), truth={"true error_mm": 0.1})
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES
    assert figures["SSIM against the moved CT"] > 0.9
    record = read_registration_json(tmp_path / "registration.json")
    assert record.status == "ok"
    assert np.allclose(record.ct_to_world, POSE)
    assert record.inputs == case.inputs
    assert record.timing_s["total"] == 2.0
    assert record.ran_on == dict.fromkeys(("search", "reconstruct"), "cuda:0 (a card)")
    assert record.parameters["seed"] == 3
    assert record.quality["reason"] == "because"
    assert record.software["radgsreg"]
    world_to_ct = sitk.ReadTransform(str(tmp_path / "ct_to_world.tfm")).TransformPoint
    for point in (*np.eye(3), np.zeros(3)):
        assert np.allclose(world_to_ct(transform_points(POSE, point).tolist()), point)
    image = sitk.ReadImage(str(tmp_path / "reconstruction.nii.gz"))
    middle = image.TransformContinuousIndexToPhysicalPoint((15.0, 15.0, 15.0))
    assert np.allclose(middle, transform_points(POSE, CENTRE_CT[None])[0], atol=1e-3)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "0.1 mm" in page
    assert "reconstruct" in page
    assert page.count("cuda:0 (a card)") == 1


def test_the_surface_goes_along() -> None:
    done = result()
    centre = transform_points(POSE, CENTRE_CT[None])[0]
    surface = transform_points(done.registration.ct_to_world, done.surface_points_ct)
    distances = np.linalg.norm(surface - centre, axis=1)
    assert np.allclose(distances, RADIUS)


def test_a_hopeless_pose_still_gives_a_report(tmp_path: Path) -> None:
    case = ball_case()
    behind = exp_se3([0, 0, 0, *(-2000.0 * case.views[0].camera.view_direction_world)]) @ POSE
    figures = write_results(tmp_path, case, result("failed", behind))
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES
    assert "SSIM against the moved CT" not in figures
    assert 'class="verdict failed"' in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_same_result_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_results(tmp_path / name, ball_case(), result())
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def replace_pipeline(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., pipeline.PipelineResult]
) -> None:
    """Verdicts at will, which no real registration gives; reading and writing stay real."""

    def told(
        *given: Any, on_registered: Callable[[Registration], object]
    ) -> pipeline.PipelineResult:
        done = run(*given)
        on_registered(done.registration)
        return done

    monkeypatch.setattr(pipeline, "run", told)
    monkeypatch.setattr(
        "RadGSRegLib.commands.register.pipeline_options", lambda *_: pipeline.PipelineOptions()
    )


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("uncertain", 3), ("failed", 3)])
def test_the_exit_status_follows_the_verdict(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    status: str,
    code: int,
) -> None:
    path = write_ball(tmp_path / "case")
    seen: list[Case] = []

    def run(case: Case, *_: object) -> pipeline.PipelineResult:
        seen.append(case)
        return result(status)

    replace_pipeline(monkeypatch, run)
    out = tmp_path / "out"
    assert cli.main(["register", str(path), "--out", str(out)]) == code
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out.startswith(f"status: {status}: because\n")
    assert ("do not rely" in captured.out) == (code == 3)
    assert sorted(p.name for p in out.iterdir()) == FILES
    record = json.loads((out / "registration.json").read_text())
    assert record["status"] == status
    assert set(record["inputs"]) == set(seen[0].inputs)


def test_results_replace_those_of_before_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_ball(tmp_path / "case")
    out = tmp_path / "out"
    replace_pipeline(monkeypatch, lambda *_: result())
    assert cli.main(["register", str(path), "--out", str(out)]) == 0
    (out / "report.html").write_text("old")
    assert cli.main(["register", str(path), "--out", str(out)]) == 0
    assert (out / "report.html").read_text() != "old"
    (out / "mine.txt").write_text("mine")
    (out / "report.html").write_text("old")
    assert cli.main(["register", str(path), "--out", str(out)]) == 2
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "report.html").read_text() == "old"


def test_a_failure_on_the_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_ball(tmp_path / "case")
    broken = replace(result(), volume_world=None)  # type: ignore[arg-type]
    replace_pipeline(monkeypatch, lambda *_: broken)
    assert cli.main(["register", str(path), "--out", str(tmp_path / "deep" / "out")]) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case"]
