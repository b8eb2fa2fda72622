"""The bone of a volume by the command line: `radgsreg surface` and `reconstruct --surface`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from RadGSRegLib import cli
from RadGSRegLib.bones import bone_axes
from RadGSRegLib.cases import read_volume, write_segmentation, write_volume_nifti
from RadGSRegLib.commands.surface import write_reconstructed
from RadGSRegLib.geometry import Volume, exp_se3
from RadGSRegLib.phantom import LABELS, make_phantom

FILES = {"bone.nii.gz", "axes.tfm", "surface.json"}
PLACE = exp_se3([0.2, -0.1, 0.15, 20.0, -30.0, 40.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``volume.nii.gz``: a spine in 1/mm, turned as a patient lies; ``seg.seg.nrrd``: labels."""
    place = tmp_path_factory.mktemp("spine")
    phantom = make_phantom(None, 2.0, "L3")
    matrix = PLACE @ phantom.ct.index_to_physical
    attenuation = 0.02 * (1.0 + phantom.ct.array / 1000.0)
    write_volume_nifti(Volume(attenuation, matrix), place / "volume.nii.gz")
    labels = Volume(phantom.labels.array, matrix)
    names = {number: name for name, number in LABELS.items()}
    write_segmentation(place / "seg.seg.nrrd", labels, names)
    return place


def axes_of(path: Path) -> np.ndarray:
    """The matrix (4, 4) that moves points as Slicer does with the file: the inverse of what it
    holds."""
    transform = sitk.AffineTransform(sitk.ReadTransform(str(path)).GetInverse())
    columns = [transform.TransformPoint(point) for point in (*np.eye(3), np.zeros(3))]
    matrix = np.eye(4)
    matrix[:3, 3] = columns[3]
    matrix[:3, :3] = np.transpose(columns[:3]) - matrix[:3, 3:]
    return matrix


def test_the_bone_of_a_volume(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["surface", str(folder / "volume.nii.gz"), "--out", str(out)]
    labels = ["--labels", str(folder / "seg.seg.nrrd"), "--label", "L3", "--box-mm", "60"]
    assert cli.main([*command, *labels, "--percentile", "85"]) == 0
    assert {path.name for path in out.iterdir()} == FILES | {"surface.stl"}
    record = json.loads((out / "surface.json").read_text())
    assert f"{record['bone_ml']:.1f} ml" in capsys.readouterr().out
    volume = read_volume(folder / "volume.nii.gz")
    assert record["threshold"] == pytest.approx(np.percentile(volume.array, 85.0), rel=1e-6)
    mask = read_volume(out / "bone.nii.gz")
    assert set(np.unique(mask.array)) == {0, 1}
    assert mask.size == volume.size
    np.testing.assert_allclose(mask.index_to_physical, volume.index_to_physical, atol=1e-4)
    voxel_ml = np.prod(volume.spacing) / 1000.0
    assert record["bone_ml"] == pytest.approx(mask.array.sum() * voxel_ml, rel=1e-4)
    # A surface through points between voxels encloses about as much.
    assert record["surface_ml"] == pytest.approx(record["bone_ml"], rel=0.15)
    assert (out / "surface.stl").stat().st_size == 84 + 50 * record["triangles"]
    # All of it lies in a cube about the label, whose axes they are.
    target = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "seg.seg.nrrd"))) == LABELS["L3"]
    label = volume.with_array(target.astype(np.uint8))
    expected = bone_axes(label)
    np.testing.assert_allclose(record["axes_to_world"], expected, atol=1e-3)
    np.testing.assert_allclose(axes_of(out / "axes.tfm"), expected, atol=1e-3)
    points = mask.physical_points(np.argwhere(mask.array)[:, ::-1])
    assert np.abs(points - expected[:3, 3]).max() <= 30.01
    assert set(record["inputs"]) == {"volume.nii.gz", "seg.seg.nrrd"}
    # Again in another format: what was there of the first goes.
    capsys.readouterr()
    assert cli.main([*command, "--threshold", "0.02", "--format", "ply"]) == 0
    assert "more than one vertebra" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == FILES | {"surface.ply"}
    again = json.loads((out / "surface.json").read_text())
    assert again["threshold"] == 0.02
    assert again["parameters"]["percentile"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--percentile", "120"], "not a percentile"),
        (["--threshold", "high"], "not a number"),
        (["--threshold", "1", "--percentile", "80"], "not allowed with"),
        (["--threshold", "7"], "nothing above"),
        (["--label", "L3"], "belong together"),
        (["--format", "vtk"], "invalid choice"),
        (["--box-mm", "-3"], "not a length"),
        (["--labels", "SEG", "--label", "T3"], "T3"),
        (["--labels", "none.nrrd", "--label", "L3"], "none.nrrd"),
    ],
)
def test_what_makes_no_surface_is_refused(
    options: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(folder / "seg.seg.nrrd") if word == "SEG" else word for word in options]
    command = ["surface", str(folder / "volume.nii.gz"), "--out", str(tmp_path / "out"), *options]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["none.nii.gz", "notes.txt"])
def test_what_is_no_volume_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no volume")
    assert cli.main(["surface", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--percentile", "80"], "only with --surface"),
        (["--percentile", "80", "--surface", "stl", "--ct-prior"], "X-rays alone"),
        (["--surface", "vtk"], "invalid choice"),
    ],
)
def test_reconstruct_refuses_what_decides_nothing(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reconstruct", "c.json", "--out", str(tmp_path / "x"), *options]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_reconstruction_with_its_surface(tmp_path: Path) -> None:
    orbit, out = tmp_path / "orbit", tmp_path / "volume"
    simulate = ["simulate", "--out", str(orbit), "--realism", "clean", "--views", "12"]
    assert cli.main([*simulate, "--path", "arc", "--field-mm", "150", "--pixels", "32"]) == 0
    command = ["reconstruct", str(orbit / "views.json"), "--out", str(out), "--steps", "3"]
    sizes = ["--gaussians", "900", "--spacing", "4", "--box-mm", "72"]
    assert cli.main([*command, *sizes, "--surface", "obj", "--percentile", "70"]) in (0, 3)
    assert {"bone.nii.gz", "axes.tfm", "surface.obj"} <= {path.name for path in out.iterdir()}
    bone = json.loads((out / "reconstruction.json").read_text())["bone"]
    volume, mask = (read_volume(out / f"{name}.nii.gz") for name in ("reconstruction", "bone"))
    assert bone["threshold_per_mm"] == pytest.approx(np.percentile(volume.array, 70.0), rel=1e-4)
    assert bone["bone_ml"] == pytest.approx(0.064 * mask.array.sum())
    assert 0.0 < bone["bone_ml"] <= 0.31 * 72**3 / 1000.0
    np.testing.assert_allclose(bone["axes_to_world"], bone_axes(mask), atol=1e-6)
    # Without it nothing of an earlier bone stays: it is of another volume.
    assert cli.main([*command, *sizes]) in (0, 3)
    assert not {path.name for path in out.iterdir()} & {"bone.nii.gz", "axes.tfm", "surface.obj"}
    assert "bone" not in json.loads((out / "reconstruction.json").read_text())


def asked(**given: object) -> argparse.Namespace:
    usual = {"surface": "stl", "percentile": None, "method": "optimize", "ct_prior": False}
    return argparse.Namespace(**{**usual, **given})


def test_a_known_shape_is_the_bone_whatever_the_volume_shows(tmp_path: Path) -> None:
    k, j, i = np.indices((24, 24, 24))
    volume = Volume(np.random.default_rng(0).random((24, 24, 24)), np.eye(4))
    inside = Volume((np.abs([k - 12, j - 11, i - 10]).max(axis=0) < 5).astype(float), np.eye(4))
    bone, remarks = write_reconstructed(
        tmp_path, asked(method="learned"), volume, inside, np.eye(3)
    )
    assert bone is not None
    assert remarks == []
    _, told = write_reconstructed(tmp_path, asked(method="learned"), volume, inside, None)
    assert "nothing says how the patient lies" in told[0]
    assert bone["threshold_per_mm"] is None
    assert bone["bone_ml"] == pytest.approx(0.729)
    assert (tmp_path / "surface.stl").exists()


@pytest.mark.parametrize(
    ("given", "volume", "said"),
    [
        ({"method": "learned"}, np.ones((5, 5, 5)), "no decoder"),
        ({}, np.zeros((5, 5, 5)), "nothing above"),
    ],
)
def test_where_there_is_no_bone_a_remark_says_so(
    given: dict[str, object], volume: np.ndarray, said: str, tmp_path: Path
) -> None:
    bone, remarks = write_reconstructed(
        tmp_path, asked(**given), Volume(volume, np.eye(4)), None, np.eye(3)
    )
    assert bone is None
    assert len(remarks) == 1
    assert said in remarks[0]
    assert list(tmp_path.iterdir()) == []
    assert write_reconstructed(
        tmp_path, asked(surface=None), Volume(volume, np.eye(4)), None, None
    ) == (None, [])
