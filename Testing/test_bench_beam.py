"""The benchmark of reconstructions: what it takes for true, its methods, rows and tables."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

import beam_table
import bench_beam
from beam_methods import METHODS, Work, held_out_figures, rendered_of, run, with_gain_and_offset
from beam_scene import Patient, Scene, simulate_scene, true_lines
from beam_voxels import grey_lines

from RadGSRegLib.drr import project_volume
from RadGSRegLib.phantom import LABELS, make_phantom
from RadGSRegLib.simulation import SimulationParameters
from RadGSRegLib.simulation.materials import mass_attenuation, split_hu

FIELD = SimulationParameters.preset("realistic").with_field(220.0, 32)


@pytest.fixture(scope="module")
def patient() -> Patient:
    phantom = make_phantom(spacing_mm=4.0)
    return Patient(phantom.ct, phantom.labels, LABELS["L3"])


@pytest.fixture(scope="module")
def clean(patient: Patient) -> Scene:
    """Six clean X-rays around the patient and two more that are held out."""
    parameters = SimulationParameters.preset("clean").with_field(220.0, 32)
    return simulate_scene(patient, replace(parameters, path="circular", views=8), 2, 3)


def test_clean_x_rays_are_the_true_line_integrals(clean: Scene) -> None:
    shown = np.stack([view.pixels for view in clean.held])
    np.testing.assert_allclose(clean.tissue.numpy(), shown, atol=1e-4)


def test_true_bones_are_those_of_the_ct(patient: Patient) -> None:
    parameters = replace(FIELD, path="arbitrary", views=3, vertebra_deg=0.0, vertebra_mm=0.0)
    scene = simulate_scene(patient, parameters, 1, 4)
    (view,) = scene.held
    with pytest.raises(ValueError, match="not of the case"):
        true_lines(patient, parameters, 5, [view.camera])
    mu = split_hu(patient.ct.array)[1] * float(mass_attenuation("bone", 60.0)) / 10.0
    moved = scene.truth.ct_to_world
    camera = view.camera
    lines = project_volume(
        patient.ct.with_array(mu), camera.intrinsic, camera.world_to_camera @ moved, camera.size
    )
    both = np.corrcoef(lines.numpy().ravel(), scene.bone[0].numpy().ravel())[0, 1]
    assert both > 0.97
    assert bool((scene.bone <= scene.tissue + 1e-4).all())
    assert view.intensity == "display"


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("ours", 2),
        ("voxels", 3),
        ("voxels-log", 3),
        # RTK's libraries take their time to load.
        pytest.param("sart", 3, marks=pytest.mark.slow),
        pytest.param("fdk", 6, marks=pytest.mark.slow),
    ],
)
def test_methods_show_something_of_the_patient(clean: Scene, method: str, count: int) -> None:
    if method in ("sart", "fdk"):
        pytest.importorskip("beam_rtk", reason="itk-rtk is not installed", exc_type=ImportError)
    row = run(Work(method, tuple(clean.spread(count)), 0, 10, 20), clean)
    assert row["seconds"] > 0.0
    assert row["attenuation"] > 0.1
    assert row["bone_fitted_psnr_db"] > row["bone_flat_psnr_db"]
    if method != "ours":
        assert row["tissue_fitted_psnr_db"] > row["tissue_flat_psnr_db"] + 2.0


def test_gain_and_offset_are_undone_but_never_a_reversal() -> None:
    wanted = torch.rand(20, 20, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(with_gain_and_offset(3.0 * wanted + 2.0, wanted), wanted)
    flat = wanted.mean().expand_as(wanted)
    torch.testing.assert_close(with_gain_and_offset(-wanted, wanted), flat)


def test_the_truth_is_perfect(clean: Scene) -> None:
    bone = held_out_figures(2.0 * clean.bone + 1.0, clean, bone_alone=True)
    assert bone["bone_fitted_psnr_db"] > 60.0
    assert bone["tissue_psnr_db"] is None
    tissue = held_out_figures(clean.tissue, clean, bone_alone=False)
    assert tissue["tissue_ssim"] == pytest.approx(1.0)
    assert (
        tissue["tissue_flat_psnr_db"]
        == held_out_figures(clean.bone, clean, bone_alone=False)["tissue_flat_psnr_db"]
    )


def test_volumes_are_rendered_where_they_lie(clean: Scene, patient: Patient) -> None:
    soft, bone = split_hu(patient.ct.array)
    mu = soft * float(mass_attenuation("soft", 60.0)) + bone * float(mass_attenuation("bone", 60.0))
    there = replace(
        patient.ct.with_array((mu / 10.0).astype(np.float32)),
        index_to_physical=clean.truth.ct_to_world @ patient.ct.index_to_physical,
    )
    figures = held_out_figures(rendered_of(there, clean.held), clean, bone_alone=False)
    assert figures["tissue_psnr_db"] > 30.0


def test_greys_become_lines_of_either_polarity(clean: Scene) -> None:
    picture = np.zeros((20, 20), np.float32)
    picture[4:16, 4:16] = np.linspace(100.0, 200.0, 12)
    display = replace(clean.views[0], pixels=picture, intensity="display")
    dark = replace(display, pixels=200.0 - picture)
    for view, bright in ((display, True), (dark, False)):
        np.testing.assert_allclose(grey_lines(view, bright), picture / 200.0, atol=1e-6)
        assert np.diff(grey_lines(view, bright, logarithm=True)[10, 4:15]).min() > 0.0
    assert clean.bone_bright


def row_of(case: str, seed: int, bone: float, **more: Any) -> dict[str, Any]:
    figures = dict.fromkeys(("bone_fitted_psnr_db", "bone_flat_psnr_db"), bone)
    likeness = dict.fromkeys(("bone_fitted_ssim", "bone_flat_ssim", "bone", "attenuation"), 0.5)
    which = {"settings": {"pixels": 32}, "case": case, "views": 5, "seed": seed}
    return {**which, "method": "ours", "seconds": 2.0, **figures, **likeness, **more}


def test_rows_are_kept_and_one_cut_off_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [row_of("realistic", seed, 20.0) for seed in (1, 2)]
    beam_table.append(path, rows[0])
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(rows[1])[:30])
    assert list(beam_table.read([path])) == [beam_table.key(rows[0])]
    beam_table.append(path, rows[1])
    assert list(beam_table.read([path, path]).values()) == rows


def test_tables_have_medians_and_the_gain_of_the_same_seeds() -> None:
    rows = [row_of("realistic", seed, bone) for seed, bone in ((1, 20.0), (2, 21.0), (3, 25.0))]
    rows += [row_of("realistic+standardised", seed, 22.5, status="ok") for seed in (2, 1)]
    which = {name: rows[0][name] for name in ("settings", "case", "views", "method")}
    rows.append({**which, "seed": 4, "error": "no bone"})
    lines = beam_table.tables(rows).splitlines()
    assert "| 5 | 4 | 21.0 / 0.500 (1 failed) | 21.0 / 0.500 |" in lines
    assert "| 5 | 2 | +2.0 | +0.000 | +0.000 |" in lines
    assert "| 5 | 2 | 2 | 2 of 2 |" in lines


def test_what_is_there_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    # A CT that is not there: nothing may need it.
    given = ["--ct", str(tmp_path / "none.nii.gz"), "--seeds", "1,2", "--views", "5"]
    given += ["--cases", "clean,standardised", "--methods", "ours", "--json", str(path)]
    wanted = bench_beam.planned(bench_beam.arguments(given))
    assert [row["case"] for row in wanted] == ["clean", "realistic+standardised"] * 2
    for row in wanted:
        beam_table.append(path, row_of(row["case"], row["seed"], 20.0) | row)
    bench_beam.main(given)
    assert "**clean**, held out, bone" in capsys.readouterr().out
    bench_beam.main(["--table", str(path), str(path)])
    assert "of bones, ours" not in capsys.readouterr().out  # nothing to compare with


def test_old_options_mean_the_same() -> None:
    args = bench_beam.arguments(["--realism", "realistic", "--seed", "4", "--standardize"])
    assert args.cases == ["realistic", "realistic+standardised"]
    assert args.seeds == [4]
    assert {row["method"] for row in bench_beam.planned(args)} == set(METHODS)
    for wrong in (["--views", "1"], ["--views", "60"], ["--cases", "other"], ["--methods", "x"]):
        with pytest.raises(SystemExit):
            bench_beam.arguments(wrong)
