"""Result files: whole or not at all, strict JSON, and a transform that Slicer reads rightly."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from RadGSRegLib.cases import (
    OutputFolder,
    RegistrationRecord,
    output_file,
    read_registration_json,
    write_itk_transform,
    write_registration_json,
    write_volume_nifti,
)
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume, exp_se3, transform_points

POSE = exp_se3([0.3, -0.2, 0.5, 12, -180, 60])
CENTRE = np.array([25.0, 174.0, -65.0])


def make_record(**changes: Any) -> RegistrationRecord:
    values: dict[str, Any] = {
        "status": "ok",
        "ct_to_world": POSE,
        "covariance": np.eye(6) * 1e-3,
        "quality": {"score": np.float32(0.5), "views": {"AP": np.array([1, 2])}, "flag": np.True_},
        "timing_s": {"search": 1.0, "total": 1.5},
        "ran_on": {"search": "cuda:0 (a card)"},
        "inputs": {"ap.tif": "0" * 64},
        "parameters": {"label": np.int64(22), "seed": None, "path": Path("/home/doe/x.json")},
    }
    return RegistrationRecord(**{**values, **changes})


def test_registration_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "registration.json"
    write_registration_json(make_record(), path)
    raw = json.loads(path.read_text())
    assert (raw["schema"], raw["version"]) == ("radgsreg/registration", 1)
    assert set(raw) == {
        "schema", "version", "status", "ct_to_world", "covariance", "quality", "timing_s",
        "ran_on", "inputs", "software", "parameters",
    }  # fmt: skip
    assert raw["parameters"] == {"label": 22, "seed": None, "path": "x.json"}
    assert raw["quality"] == {"score": 0.5, "views": {"AP": [1, 2]}, "flag": True}
    assert "radgsreg" in raw["software"]
    assert raw["ran_on"] == {"search": "cuda:0 (a card)"}
    record = read_registration_json(path)
    np.testing.assert_allclose(record.ct_to_world, POSE, atol=1e-12)
    np.testing.assert_array_equal(record.covariance, np.eye(6) * 1e-3)
    assert record.ran_on == raw["ran_on"]
    # Files of an older version do not say it.
    del raw["ran_on"]
    path.write_text(json.dumps(raw))
    assert read_registration_json(path).ran_on == {}
    assert [p.name for p in tmp_path.iterdir()] == ["registration.json"]


def test_no_nan_in_json(tmp_path: Path) -> None:
    path = tmp_path / "registration.json"
    record = make_record(
        status="failed", covariance=np.full((6, 6), np.inf), quality={"a": np.nan, "b": [np.inf]}
    )
    write_registration_json(record, path)
    text = path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert read_registration_json(path).quality == {"a": None, "b": [None]}
    assert read_registration_json(path).covariance is None


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "fine"},
        {"ct_to_world": np.diag([1.0, 1, -1, 1])},
        {"ct_to_world": np.full((4, 4), np.nan)},
        {"covariance": None},
        {"covariance": np.full((6, 6), np.nan)},
        {"covariance": np.eye(3)},
    ],
)
def test_nonsense_is_not_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"status|rigid|covariance"):
        write_registration_json(make_record(**changes), tmp_path / "registration.json")
    with pytest.raises(TypeError, match="JSON"):
        write_registration_json(make_record(quality={"x": object()}), tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_other_json_is_no_registration(tmp_path: Path) -> None:
    path = tmp_path / "registration.json"
    write_registration_json(make_record(), path)
    for key, value in {"schema": "x", "version": 2, "status": "fine", "quality": 3}.items():
        data = json.loads(path.read_text())
        data[key] = value
        (tmp_path / "other.json").write_text(json.dumps(data))
        with pytest.raises(InputError, match=f"other.json.*{key}"):
            read_registration_json(tmp_path / "other.json")


# ---------------------------------------------------------------- the transform file


@given(
    st.lists(st.floats(-3, 3), min_size=6, max_size=6),
    st.lists(st.floats(-500, 500), min_size=3, max_size=3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_transform_round_trip(tmp_path: Path, twist: list[float], centre: list[float]) -> None:
    pose = exp_se3(np.array(twist) * [1, 1, 1, 100, 100, 100])
    path = tmp_path / "ct_to_world.tfm"
    write_itk_transform(pose, path, centre)
    world_to_ct = sitk.ReadTransform(str(path)).TransformPoint
    for point in (*np.eye(3), np.zeros(3)):
        world = transform_points(pose, point)
        np.testing.assert_allclose(world_to_ct(world.tolist()), point, atol=1e-9)


def test_transform_file_holds_the_resampling_direction(tmp_path: Path) -> None:
    """ITK resamples with it: a bright voxel of the CT comes out at its place in the world."""
    path = tmp_path / "ct_to_world.tfm"
    write_itk_transform(POSE, path, CENTRE)
    transform = sitk.ReadTransform(str(path))
    world = transform_points(POSE, CENTRE[None])[0]
    np.testing.assert_allclose(transform.TransformPoint(world.tolist()), CENTRE, atol=1e-9)
    np.testing.assert_allclose(sitk.AffineTransform(transform).GetCenter(), world, atol=1e-9)
    with pytest.raises(ValueError, match="rigid"):
        write_itk_transform(np.diag([1, 1, -1, 1]), tmp_path / "no.tfm")


def test_slicer_moves_the_vertebra_to_its_place(tmp_path: Path) -> None:
    """Through Slicer's own storage node: the CT under the transform, a point of it in RAS."""
    if find_spec("slicer") is None:
        pytest.skip("slicer-core is not installed")
    write_itk_transform(POSE, tmp_path / "ct_to_world.tfm", CENTRE)
    script = textwrap.dedent(
        """
        import json, slicer, vtk
        scene = slicer.vtkMRMLScene()
        node = slicer.vtkMRMLLinearTransformNode()
        scene.AddNode(node)
        storage = slicer.vtkMRMLTransformStorageNode()
        scene.AddNode(storage)
        storage.SetFileName("ct_to_world.tfm")
        assert storage.ReadData(node)
        ct = slicer.vtkMRMLScalarVolumeNode()
        scene.AddNode(ct)
        ct.SetAndObserveTransformNodeID(node.GetID())
        out = []
        for ras in ([-25.0, -174.0, -65.0], [-40.0, -150.0, -30.0]):
            moved = [0.0, 0.0, 0.0]
            ct.TransformPointToWorld(ras, moved)
            out.append(moved)
        print(json.dumps(out))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    moved_ras = np.array(json.loads(done.stdout.strip().splitlines()[-1]))
    ct_lps = np.array([[25.0, 174, -65], [40, 150, -30]])
    expected = transform_points(POSE, ct_lps) * [-1, -1, 1]
    np.testing.assert_allclose(moved_ras, expected, atol=1e-6)


def test_volume_file_keeps_its_place(tmp_path: Path) -> None:
    matrix = exp_se3([0.4, 0.1, -0.2, 3, 4, 5]) @ np.diag([1.0, 1.0, 1.5, 1.0])
    volume = Volume(np.random.default_rng(0).random((4, 5, 6)), matrix)
    write_volume_nifti(volume, tmp_path / "reconstruction.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "reconstruction.nii.gz"))
    assert image.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), volume.array, rtol=1e-6)
    place = image.TransformIndexToPhysicalPoint((5, 4, 3))
    np.testing.assert_allclose(place, volume.physical_points([[5, 4, 3]])[0], atol=1e-4)


# ---------------------------------------------------------------- whole or not at all


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def test_new_folder_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with OutputFolder(out) as stage:
        (stage / "a.txt").write_text("a")
        (stage / "sub").mkdir()
        (stage / "sub" / "b.txt").write_text("b")
        assert not out.exists()
    assert names(tmp_path) == {
        "deep", "deep/out", "deep/out/a.txt", "deep/out/sub", "deep/out/sub/b.txt",
    }  # fmt: skip
    assert out.stat().st_mode & 0o500 == 0o500
    assert out.stat().st_mode == (tmp_path / "deep").stat().st_mode


@pytest.mark.parametrize("error", [InputError("x", "y"), KeyboardInterrupt(), SystemExit(3)])
def test_nothing_is_left_of_a_job_that_ends_early(tmp_path: Path, error: BaseException) -> None:
    def job() -> None:
        with OutputFolder(tmp_path / "deep" / "out") as stage:
            (stage / "a.txt").write_text("a")
            raise error

    with pytest.raises(type(error)):
        job()
    assert names(tmp_path) == set()


def test_other_files_stay_and_ours_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    (out / "a.txt").write_text("old")
    with OutputFolder(out) as stage:
        (stage / "a.txt").write_text("new")
        (stage / "b.txt").write_text("b")
        assert (out / "a.txt").read_text() == "old"
    assert {p.name: p.read_text() for p in out.iterdir()} == {
        "mine.txt": "keep", "a.txt": "new", "b.txt": "b",
    }  # fmt: skip
    assert names(tmp_path) == {"out", "out/mine.txt", "out/a.txt", "out/b.txt"}


def test_an_existing_folder_may_be_a_mount_whose_parent_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    rename, replace = Path.rename, Path.replace

    def guarded(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def moved(self: Path, target: Path) -> Path:
            if (out in self.parents) != (out in Path(target).parents):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            return move(self, target)

        return moved

    monkeypatch.setattr(Path, "rename", guarded(rename))
    monkeypatch.setattr(Path, "replace", guarded(replace))
    with OutputFolder(out) as stage:
        (stage / "a.txt").write_text("a")
    assert names(tmp_path) == {"out", "out/a.txt"}


def test_a_disk_that_fails_at_the_end_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    def job() -> None:
        with OutputFolder(tmp_path / "out") as stage:
            (stage / "a.txt").write_text("a")
            monkeypatch.setattr(Path, "rename", full)

    with pytest.raises(InputError, match="No space left"):
        job()
    assert names(tmp_path) == set()


def test_a_failing_commit_puts_the_old_files_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("old a")
    (out / "c.txt").write_text("old c")
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "c.txt" and target == out / "c.txt":
            raise KeyboardInterrupt  # the user, in the middle of it
        return replace(self, target)

    def job() -> None:
        with OutputFolder(out) as stage:
            for name in ("a.txt", "b.txt", "c.txt"):
                (stage / name).write_text("new")
            (stage / "bb").mkdir()
            (stage / "bb" / "e").write_text("e")
            monkeypatch.setattr(Path, "replace", interrupted)

    with pytest.raises(KeyboardInterrupt):
        job()
    assert {p.name: p.read_text() for p in out.iterdir()} == {"a.txt": "old a", "c.txt": "old c"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_where_a_file_should_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "c.txt").mkdir(parents=True)
    (out / "a.txt").write_text("old")
    (out / "d").write_text("d")

    def job(name: str) -> None:
        with OutputFolder(out) as stage:
            (stage / "a.txt").write_text("new")
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).write_text("x")

    for name in ("c.txt", "d/e"):
        with pytest.raises(InputError, match="in the way"):
            job(name)
    assert (out / "a.txt").read_text() == "old"
    assert names(tmp_path) == {"out", "out/a.txt", "out/c.txt", "out/d"}


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    for place in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(InputError, match="out"), OutputFolder(place):
            pass
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), OSError(28, "full")])
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a b.txt"
    path.write_text("old")

    def write() -> None:
        with output_file(path) as part:
            part.write_text("ne")
            raise error

    wanted = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted, match="written .full" if wanted is InputError else None):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with output_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="cannot be written"), output_file(path / "c.txt"):
        pass
