"""A bone's mask, axes, slices and surface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from RadGSRegLib.bones import (
    BoneMask,
    Mesh,
    bone_axes,
    bone_mask,
    bone_surface,
    resliced,
    write_mesh,
)
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume, affine, exp_se3, is_rigid, rotation_angle_deg
from RadGSRegLib.phantom import LABELS, Phantom, make_phantom, random_spine

ROOT = Path(__file__).resolve().parents[1]
RADIUS_MM = 12.0
TWISTS = st.lists(st.floats(-3.0, 3.0), min_size=6, max_size=6)


def placed(values: NDArray[np.float64], matrix: NDArray[np.float64]) -> Volume:
    return Volume(values, matrix)


def positions(volume: Volume) -> NDArray[np.float64]:
    """The centres (K, J, I, 3) mm of a grid's voxels."""
    k, j, i = np.indices(volume.array.shape).astype(float)
    points = volume.physical_points(np.stack([i, j, k], axis=-1).reshape(-1, 3))
    return points.reshape(*volume.array.shape, 3)


def ball(matrix: NDArray[np.float64], size_ijk: tuple[int, int, int]) -> Volume:
    """How deep each voxel lies in a ball about the grid's middle, mm; negative outside."""
    grid = Volume(np.zeros(size_ijk[::-1]), matrix)
    middle = grid.physical_points([[(n - 1) / 2 for n in size_ijk]])[0]
    depth = RADIUS_MM - np.linalg.norm(positions(grid) - middle, axis=-1)
    return grid.with_array(depth)


def edges(mesh: Mesh) -> NDArray[np.int64]:
    """The directed edges (3 M, 2) of all triangles."""
    a, b, c = mesh.triangles.T
    return np.concatenate([np.stack(pair, axis=1) for pair in ((a, b), (b, c), (c, a))])


def is_watertight(mesh: Mesh) -> bool:
    """Whether each edge is passed once in either direction."""
    there = {(int(a), int(b)) for a, b in edges(mesh)}
    return len(there) == len(edges(mesh)) and all((b, a) in there for a, b in there)


# The mask


def test_the_mask_is_what_is_above_a_percentile_of_all_values() -> None:
    values = np.arange(1000.0).reshape(10, 10, 10)
    bone = bone_mask(Volume(values, np.diag([2.0, 1.0, 0.5, 1.0])))
    assert bone.threshold == np.percentile(values, 80.0)
    assert bone.mask.array.dtype == np.uint8
    np.testing.assert_array_equal(bone.mask.array, values > bone.threshold)
    assert bone.volume_ml == pytest.approx(0.2)
    # A box limits where, not how bright.
    boxed = bone_mask(Volume(values, np.diag([2.0, 1.0, 0.5, 1.0])), upper_world=[5.0, 9.0, 9.0])
    assert boxed.threshold == bone.threshold
    assert boxed.volume_ml == pytest.approx(0.2 * 3 / 10)


def test_the_largest_piece_is_kept_and_corners_do_not_join() -> None:
    values = np.zeros((12, 12, 12))
    values[1:6, 1:6, 1:6] = values[6:9, 6:9, 6:9] = 1.0
    bone = bone_mask(Volume(values, np.eye(4)), threshold=0.5)
    assert bone.mask.array.sum() == 125
    values[6, 5, 5] = 1.0
    values[6, 6, 5] = 1.0
    assert bone_mask(Volume(values, np.eye(4)), threshold=0.5).mask.array.sum() == 125 + 27 + 2


@given(TWISTS, st.lists(st.floats(0.5, 3.0), min_size=3, max_size=3), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_box_is_along_the_worlds_axes(
    twist: list[float], spacing: list[float], mirrored: bool
) -> None:
    matrix = exp_se3(np.array(twist)) @ np.diag([*spacing, 1.0])
    matrix[:, 0] *= -1.0 if mirrored else 1.0
    volume = Volume(np.ones((6, 7, 8)), matrix)
    middle = volume.physical_points([[3.5, 3.0, 2.5]])[0]
    lower, upper = middle - 3.0, middle + 4.0
    inside = ((positions(volume) >= lower) & (positions(volume) <= upper)).all(axis=-1)
    bone = bone_mask(volume, threshold=0.5, lower_world=lower, upper_world=upper)
    assert not bone.mask.array[~inside].any()
    assert 0 < bone.mask.array.sum() <= inside.sum()
    np.testing.assert_array_equal(bone.mask.index_to_physical, matrix)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"percentile": 101.0}, "percentile.*101"),
        ({"percentile": -1.0}, "percentile"),
        ({"percentile": float("nan")}, "percentile"),
        ({"threshold": float("inf")}, "threshold"),
        ({"percentile": 100.0}, "nothing above"),
        ({"threshold": 9.0}, "nothing above the threshold of 9"),
        ({"threshold": 0.5, "lower_world": [50.0, 0.0, 0.0]}, "holds no voxel.*from 0, 0, 0 to 4"),
        ({"threshold": 0.5, "upper_world": [1.0, 2.0]}, "three numbers"),
    ],
)
def test_what_cannot_be_bone_is_refused(options: dict[str, object], said: str) -> None:
    volume = Volume(np.linspace(0.0, 1.0, 125).reshape(5, 5, 5), np.eye(4))
    with pytest.raises(InputError, match=said):
        bone_mask(volume, **options)  # type: ignore[arg-type]


def test_a_percentile_of_an_empty_background_is_refused() -> None:
    values = np.zeros((10, 10, 10))
    values[0] = 1.0
    with pytest.raises(InputError, match=r"empty in 80 %.*threshold"):
        bone_mask(Volume(values, np.eye(4)))
    assert bone_mask(Volume(values, np.eye(4)), 0.0).mask.array.sum() == 100


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        bone_mask(Volume(np.full((3, 3, 3), np.nan), np.eye(4)))


# The axes


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(random_spine(903), 1.5)


def of_level(phantom: Phantom, name: str) -> Volume:
    return phantom.labels.with_array((phantom.labels.array == LABELS[name]).astype(np.uint8))


@pytest.mark.parametrize("name", ["L1", "L3", "L4"])
def test_axes_of_a_vertebra_are_near_the_anatomical_ones(phantom: Phantom, name: str) -> None:
    mask = of_level(phantom, name)
    axes = bone_axes(mask)
    truth = phantom.poses[name][:3, :3]
    assert is_rigid(axes)
    assert rotation_angle_deg(axes[:3, :3].T @ truth) < 9.0
    assert np.degrees(np.arccos(axes[:3, 0] @ truth[:, 0])) < 2.5
    centre = positions(mask)[mask.array != 0].mean(axis=0)
    np.testing.assert_allclose(axes[:3, 3], centre, atol=1e-6)


@given(TWISTS)
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_axes_go_with_the_patient(phantom: Phantom, twist: list[float]) -> None:
    """Whatever the world's axes are, they are the same in the patient."""
    mask = of_level(phantom, "L3")
    turn = exp_se3(np.array(twist) * [1, 1, 1, 90, 90, 90])
    moved = Volume(mask.array, turn @ mask.index_to_physical)
    axes = bone_axes(moved, turn[:3, :3])
    np.testing.assert_allclose(axes, turn @ bone_axes(mask), atol=1e-3)


def test_axes_never_flip_where_a_patient_lies_askew(phantom: Phantom) -> None:
    mask = of_level(phantom, "L3")
    for turn_deg in ([20, 0, 0], [0, -20, 0], [0, 0, 20], [-14, 14, -14]):
        turn = Rotation.from_rotvec(np.radians(turn_deg)).as_matrix()
        moved = Volume(mask.array, affine(turn, np.zeros(3)) @ mask.index_to_physical)
        truth = turn @ phantom.poses["L3"][:3, :3]
        assert rotation_angle_deg(bone_axes(moved)[:3, :3].T @ truth) < 9.0


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=4, max_size=30, unique=True))
@settings(max_examples=15, deadline=None)
def test_any_mask_has_axes_that_are_rigid(voxels: list[tuple[int, int, int]]) -> None:
    values = np.zeros((6, 6, 6), np.uint8)
    values[tuple(np.transpose(voxels))] = 1
    axes = bone_axes(Volume(values, np.diag([1.0, 2.0, 0.7, 1.0])))
    assert is_rigid(axes)
    # No axis is turned to another's place.
    assert (np.diag(axes)[:3] > 0.4).all()


def test_what_has_no_axes_is_refused() -> None:
    with pytest.raises(InputError, match="too few voxels"):
        bone_axes(Volume(np.zeros((5, 5, 5)), np.eye(4)))
    with pytest.raises(InputError, match="rotation"):
        bone_axes(Volume(np.ones((5, 5, 5)), np.eye(4)), -np.eye(3))


# Slices


@given(TWISTS, TWISTS, st.lists(st.floats(0.5, 2.0), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_slices_show_what_is_where_they_lie(
    twist: list[float], turn: list[float], spacing: list[float]
) -> None:
    """What is linear in the world is so in the slices."""
    grid = Volume(np.zeros((40, 40, 40)), exp_se3(np.array(twist)) @ np.diag([*spacing, 1.0]))
    slope = np.array([0.3, -0.2, 0.1])
    volume = grid.with_array(positions(grid) @ slope)
    middle = grid.physical_points([[19.5, 19.5, 19.5]])[0]
    axes = affine(exp_se3(np.array(turn))[:3, :3], middle)
    slices = resliced(volume, axes, [6.0, 4.0, 8.0], [1.0, 0.5, 2.0])
    assert slices.size == (6, 8, 4)
    np.testing.assert_allclose(slices.array, positions(slices) @ slope, atol=1e-4)
    np.testing.assert_allclose(slices.spacing, [1.0, 0.5, 2.0])
    np.testing.assert_allclose(slices.physical_points([[2.5, 3.5, 1.5]])[0], middle, atol=1e-9)
    np.testing.assert_allclose(slices.direction, axes[:3, :3], atol=1e-9)


def test_slices_beyond_the_volume_have_the_value_of_outside() -> None:
    volume = Volume(np.ones((4, 4, 4)), np.eye(4))
    slices = resliced(volume, affine(np.eye(3), [90.0, 0.0, 0.0]), 3.0, 1.0, outside=-5.0)
    assert (slices.array == -5.0).all()
    for size, spacing in ((0.0, 1.0), (5.0, -1.0), (np.nan, 1.0)):
        with pytest.raises(InputError, match="not above 0"):
            resliced(volume, np.eye(4), size, spacing)
    with pytest.raises(InputError, match="rigid"):
        resliced(volume, np.diag([1.0, 1.0, -1.0, 1.0]), 5.0, 1.0)


# The surface


@given(TWISTS, st.lists(st.floats(0.7, 1.4), min_size=3, max_size=3), st.booleans())
@settings(max_examples=12, deadline=None)
def test_the_surface_of_a_ball_is_whole_and_faces_outwards(
    twist: list[float], spacing: list[float], mirrored: bool
) -> None:
    matrix = exp_se3(np.array(twist)) @ np.diag([*spacing, 1.0])
    matrix[:, 0] *= -1.0 if mirrored else 1.0
    depth = ball(matrix, tuple(int(26 / step) + 3 for step in spacing))  # type: ignore[arg-type]
    mesh = bone_surface(depth, 0.0)
    assert mesh.enclosed_ml == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3 / 1000.0, rel=0.02)
    assert is_watertight(mesh)
    middle = depth.physical_points([[(n - 1) / 2 for n in depth.size]])[0]
    a, b, c = np.moveaxis(mesh.points_world[mesh.triangles], 1, 0)
    outwards = np.einsum("ij,ij->i", np.cross(b - a, c - a), (a + b + c) / 3 - middle)
    assert (outwards >= -1e-6).all()
    np.testing.assert_allclose(
        np.linalg.norm(mesh.points_world - middle, axis=1), RADIUS_MM, atol=0.15
    )


def test_a_surface_is_that_of_the_piece_alone_and_closed_where_it_is_cut() -> None:
    depth = ball(np.eye(4), (31, 31, 31))
    values = depth.array.copy()
    values[0:2, 0:2, 0:2] = 5.0
    volume = depth.with_array(values)
    whole = bone_mask(volume, threshold=0.0)
    mesh = bone_surface(volume, whole.threshold, whole.mask)
    assert mesh.enclosed_ml == pytest.approx(bone_surface(depth, 0.0).enclosed_ml)
    half = bone_mask(volume, threshold=0.0, upper_world=[15.0, 31.0, 31.0])
    cut = bone_surface(volume, half.threshold, half.mask)
    assert is_watertight(cut)
    assert cut.enclosed_ml == pytest.approx(0.5 * mesh.enclosed_ml, rel=0.06)
    assert cut.points_world[:, 0].max() <= 16.0
    # The grid ends in the ball.
    part = depth.crop((0, 0, 0), (16, 31, 31))
    at_the_end = bone_surface(part, 0.0)
    assert is_watertight(at_the_end)
    assert at_the_end.enclosed_ml == pytest.approx(0.5 * mesh.enclosed_ml, rel=0.06)


def test_a_surface_of_a_vertebra_is_as_large_as_its_mask(phantom: Phantom) -> None:
    mask = of_level(phantom, "L2")
    bone = bone_mask(mask, threshold=0.5)
    mesh = bone_surface(mask, 0.5, bone.mask)
    assert isinstance(bone, BoneMask)
    assert mesh.enclosed_ml == pytest.approx(bone.volume_ml, rel=0.1)
    assert is_watertight(mesh)


def test_what_has_no_surface_is_refused() -> None:
    volume = Volume(np.zeros((5, 5, 5)), np.eye(4))
    with pytest.raises(InputError, match="no surface"):
        bone_surface(volume, 0.5)
    with pytest.raises(InputError, match="grid"):
        bone_surface(volume, 0.5, Volume(np.zeros((4, 5, 5)), np.eye(4)))


# Files


@pytest.fixture
def mesh() -> Mesh:
    depth = ball(exp_se3([0.3, 0.2, -0.4, 30.0, -50.0, 70.0]), (29, 29, 29))
    return bone_surface(depth, 0.0)


def read_back(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64], str]:
    """Points, triangles and the header or comments, by VTK's readers."""
    geometry = pytest.importorskip("vtkmodules.vtkIOGeometry", reason="vtk is not installed")
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOPLY import vtkPLYReader

    kinds = {".stl": geometry.vtkSTLReader, ".ply": vtkPLYReader, ".obj": geometry.vtkOBJReader}
    reader = kinds[path.suffix]()
    reader.SetFileName(str(path))
    reader.Update()
    data = reader.GetOutput()
    triangles = vtk_to_numpy(data.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    if path.suffix == ".stl":
        said = reader.GetHeader()
    elif path.suffix == ".obj":
        said = reader.GetComment()
    else:
        comments = reader.GetComments()
        said = " ".join(comments.GetValue(n) for n in range(comments.GetNumberOfValues()))
    points = vtk_to_numpy(data.GetPoints().GetData()).astype(float)
    return points, triangles.astype(np.int64), said


@pytest.mark.parametrize("suffix", ["stl", "ply", "obj"])
def test_files_are_read_back_by_others(suffix: str, mesh: Mesh, tmp_path: Path) -> None:
    path = tmp_path / f"surface.{suffix}"
    write_mesh(path, mesh)
    points, triangles, said = read_back(path)
    assert "SPACE=LPS" in said
    assert "mm" in said
    assert len(triangles) == len(mesh.triangles)
    again = Mesh(points, triangles)
    assert again.enclosed_ml == pytest.approx(mesh.enclosed_ml, rel=1e-5)
    np.testing.assert_allclose(
        points[triangles], mesh.points_world[mesh.triangles], atol=2e-5, rtol=1e-6
    )
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_slicer_puts_a_surface_where_it_belongs(mesh: Mesh, tmp_path: Path) -> None:
    """Through Slicer's own storage node, though it was told that the file were RAS."""
    if find_spec("slicer") is None:
        pytest.skip("slicer-core is not installed")
    for suffix in ("stl", "ply", "obj"):
        write_mesh(tmp_path / f"surface.{suffix}", mesh)
    script = textwrap.dedent(
        """
        import json, slicer
        scene = slicer.vtkMRMLScene()
        out = {}
        for suffix in ("stl", "ply", "obj"):
            node = slicer.vtkMRMLModelNode()
            scene.AddNode(node)
            storage = slicer.vtkMRMLModelStorageNode()
            scene.AddNode(storage)
            storage.SetCoordinateSystem(storage.CoordinateSystemRAS)
            storage.SetFileName(f"surface.{suffix}")
            assert storage.ReadData(node)
            data = node.GetPolyData()
            out[suffix] = [list(data.GetBounds()), data.GetNumberOfCells()]
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
    ras = mesh.points_world * [-1.0, -1.0, 1.0]
    expected = np.stack([ras.min(axis=0), ras.max(axis=0)], axis=1).ravel()
    for bounds, cells in json.loads(done.stdout.strip().splitlines()[-1]).values():
        np.testing.assert_allclose(bounds, expected, atol=1e-4)
        assert cells == len(mesh.triangles)


def test_a_surface_goes_nowhere_else(mesh: Mesh, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.stl, \.ply or \.obj"):
        write_mesh(tmp_path / "surface.vtk", mesh)
    with pytest.raises(InputError, match="cannot be written"):
        write_mesh(tmp_path / "none" / "surface.stl", mesh)
    assert list(tmp_path.iterdir()) == []


def test_bones_load_without_torch() -> None:
    code = "import RadGSRegLib.bones, sys; print('torch' in sys.modules, 'skimage' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
