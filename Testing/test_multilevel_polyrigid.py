"""A CT bent by the poses of its bones: rigid in each, smooth between them, and as a file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from RadGSRegLib.cases import write_itk_bent
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, Volume, exp_se3, transform_points, translation
from RadGSRegLib.multilevel import (
    BentGrid,
    PolyrigidMap,
    bent_grid,
    bounds,
    least_jacobian,
    polyrigid_map,
)

PITCH_MM = 36.0
# 14 mm between the bones; the fourth has no pose.
CENTRES = {
    20: [0.0, 0.0, -PITCH_MM],
    21: [0.0, 0.0, 0.0],
    22: [0.0, 0.0, PITCH_MM],
    5: [0.0, 36.0, 0.0],
}
TURNED = exp_se3([0.3, -0.2, 0.4, 15.0, -30.0, 80.0])


@lru_cache(maxsize=2)
def spine(voxel_mm: float = 2.0) -> Volume:
    """Ellipsoids of 40 x 32 x 22 mm on a grid of its own axes and place."""
    size = np.ceil(np.array([90.0, 100.0, 2 * PITCH_MM + 60.0]) / voxel_mm).astype(int)
    labels = np.zeros(size[::-1], dtype=np.int16)
    points = (np.argwhere(labels == 0)[:, ::-1] - (size - 1) / 2.0) * voxel_mm
    for label, centre in CENTRES.items():
        semi_axes = [20.0, 16.0, 11.0] if label != 5 else [8.0, 8.0, 8.0]
        inside = (((points - centre) / semi_axes) ** 2).sum(axis=1) <= 1.0
        labels.ravel()[inside] = label
    scale = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    return Volume(labels, TURNED @ scale @ translation(-(size - 1) / 2.0))


def poses(
    seed: int = 0, angle_deg: float = 5.0, offset_mm: float = 3.0, common: Array | None = None
) -> dict[int, Array]:
    """Of three bones; neighbours turn and shift by so much about the middle of their gap."""
    rng = np.random.default_rng(seed)
    place = exp_se3([0.4, 0.9, -0.3, 70.0, -40.0, 20.0]) if common is None else common
    out = {21: place}
    for label, way in ((20, -1), (22, 1)):
        turn, shift = rng.normal(size=(2, 3))
        twist = np.r_[
            np.radians(angle_deg) * turn / np.linalg.norm(turn),
            offset_mm * shift / np.linalg.norm(shift),
        ]
        gap = TURNED @ translation([0.0, 0.0, way * PITCH_MM / 2.0])
        out[label] = place @ gap @ exp_se3(twist) @ np.linalg.inv(gap)
    return out


def voxels(label: int) -> Array:
    return spine().physical_points(np.argwhere(spine().array == label)[:, ::-1].astype(float))


def anywhere(count: int = 4000) -> Array:
    """Points in the CT and up to 20 mm beside it."""
    low, high = np.full(3, -10.0), np.array(spine().size) + 10.0
    return spine().physical_points(np.random.default_rng(7).uniform(low, high, (count, 3)))


@lru_cache(maxsize=1)
def bent() -> tuple[PolyrigidMap, BentGrid]:
    bend = polyrigid_map(spine(), poses())
    return bend, bent_grid(bend, spine())


def test_every_bone_goes_exactly_where_its_pose_puts_it() -> None:
    bend = bent()[0]
    for label, pose in poses().items():
        expected = transform_points(pose, voxels(label))
        np.testing.assert_allclose(bend.apply(voxels(label)), expected, atol=1e-6)


def test_one_pose_for_all_moves_the_whole_ct_rigidly() -> None:
    pose = poses()[20]
    for labels in ((20, 21, 22), (21,)):
        bend = polyrigid_map(spine(), dict.fromkeys(labels, pose))
        expected = transform_points(pose, anywhere())
        np.testing.assert_allclose(bend.apply(anywhere()), expected, atol=1e-9)
        grid = bent_grid(bend, spine(), 6.0)
        assert np.abs(grid.displacement).max() < 1e-9
        assert least_jacobian(bend, spine(), 6.0) == pytest.approx(1.0)


def test_the_order_of_the_labels_does_not_matter() -> None:
    backwards = dict(reversed(poses().items()))
    other = polyrigid_map(spine(), backwards).apply(anywhere())
    np.testing.assert_allclose(other, bent()[0].apply(anywhere()), atol=1e-9)


def test_the_map_goes_with_the_world_and_with_the_ct() -> None:
    here = bent()[0].apply(anywhere())
    more = exp_se3([1.5, -0.7, 0.8, 300.0, 20.0, -90.0])
    further = polyrigid_map(spine(), {label: more @ pose for label, pose in poses().items()})
    np.testing.assert_allclose(further.apply(anywhere()), transform_points(more, here), atol=1e-7)
    back = np.linalg.inv(more)
    elsewhere = Volume(spine().array, more @ spine().index_to_physical)
    moved = polyrigid_map(elsewhere, {label: pose @ back for label, pose in poses().items()})
    np.testing.assert_allclose(moved.apply(transform_points(more, anywhere())), here, atol=1e-7)


def test_a_bone_without_a_pose_follows_what_is_around_it() -> None:
    """Beside the middle bone it goes more as that one than as the others."""
    moved = bent()[0].apply(voxels(5))
    off = {
        label: np.linalg.norm(moved - transform_points(pose, voxels(5)), axis=1).mean()
        for label, pose in poses().items()
    }
    assert min(off, key=off.__getitem__) == 21


def test_far_away_the_mean_of_the_poses_is_left() -> None:
    bend = bent()[0]
    sums = bend.twists.sum(axis=0)
    np.testing.assert_allclose(sums, 0.0, atol=1e-9)
    inner, outer = np.array([[0.0, 30.0, 40.0]]), np.array([[0.0, 44.0, 0.0], [0.0, -44.0, 0.0]])
    strength = [np.abs(bend.twists_at(transform_points(TURNED, p))).max() for p in (inner, outer)]
    assert strength[1] < strength[0]


def test_nothing_jumps() -> None:
    """Along lines through bones, gaps, and beyond the CT: neighbours stay neighbours."""
    bend = bent()[0]
    for ends in ([[0, 0, -90], [0, 0, 90]], [[-20, -60, 30], [25, 60, -40]], [[-60, 0, 18]] * 2):
        begin, end = np.array(ends, dtype=float)
        end = end if (end != begin).any() else -begin
        line = begin + np.linspace(0.0, 1.0, 20_001)[:, None] * (end - begin)
        apart = np.linalg.norm(np.diff(line, axis=0), axis=1)
        moved = np.linalg.norm(np.diff(bend.apply(transform_points(TURNED, line)), axis=0), axis=1)
        assert (moved / apart).max() < 2.0


@given(st.integers(0, 2**31), st.floats(0.0, 10.0), st.floats(0.0, 8.0))
@settings(max_examples=20, deadline=None)
def test_nothing_folds_and_everything_is_led_back(
    seed: int, angle_deg: float, offset_mm: float
) -> None:
    bend = polyrigid_map(spine(3.0), poses(seed, angle_deg, offset_mm))
    assert least_jacobian(bend, spine(3.0)) > 0.0
    led = bend.lead_back(bend.apply(anywhere(500)))
    assert led.residual_mm.max() <= bounds.INVERSE_MM
    world = bend.apply(led.points_ct)
    off = np.linalg.norm(world - bend.apply(anywhere(500)), axis=1)
    np.testing.assert_allclose(off, led.residual_mm, atol=1e-7)
    # Pressed together to a fifth at most, a residual is no more than that in the CT.
    assert np.linalg.norm(led.points_ct - anywhere(500), axis=1).max() < 0.5


def test_a_fold_is_told() -> None:
    """The upper bones are pushed through one another: no map of space does that."""
    pose = poses()
    pose[22] = pose[21] @ TURNED @ translation([0, 0, -30.0]) @ np.linalg.inv(TURNED)
    assert least_jacobian(polyrigid_map(spine(3.0), pose), spine(3.0)) < 0.0


def test_what_cannot_be_led_back_is_told() -> None:
    """Bones that touch are pushed into one another, or come apart: residuals stay true."""
    labels = np.zeros((20, 20, 40), dtype=int)
    labels[:, :, :20], labels[:, :, 20:] = 1, 2
    touching = Volume(labels, np.eye(4))
    world = np.random.default_rng(5).uniform([-5, 0, 0], [50, 20, 20], (2000, 3))
    unsettled = {}
    for by_mm in (-8.0, 8.0):
        bend = polyrigid_map(touching, {1: np.eye(4), 2: translation([by_mm, 0.0, 0.0])})
        led = bend.lead_back(world)
        off = np.linalg.norm(bend.apply(led.points_ct) - world, axis=1)
        np.testing.assert_allclose(off, led.residual_mm, atol=1e-9)
        unsettled[by_mm] = float((off > bounds.INVERSE_MM).mean())
        assert (least_jacobian(bend, touching) < 0.0) == (by_mm < 0.0)
    assert max(unsettled.values()) < 0.02


# ---------------------------------------------------------------- the file


def write(grid: BentGrid, path: Path) -> None:
    write_itk_bent(grid.common_ct_to_world, grid.displacement, grid.index_to_ct, path)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bent") / "spine_ct_to_world.h5"
    write(bent()[1], path)
    return path


def test_the_inverse_is_as_near_as_it_says() -> None:
    grid = bent()[1]
    assert grid.settled == 1.0
    assert 0.0 < grid.worst_mm <= bounds.INVERSE_MM


def test_itk_leads_every_bone_back_by_the_file(file: Path) -> None:
    to_ct = sitk.ReadTransform(str(file)).TransformPoint
    for label, pose in poses().items():
        points = voxels(label)
        world = transform_points(pose, points)
        led = np.array([to_ct(point.tolist()) for point in world])
        assert np.linalg.norm(led - points, axis=1).max() < 0.05


def test_itk_leads_the_whole_ct_back_by_the_file(file: Path) -> None:
    """Between the bones the map is interpolated, and stretched around them."""
    to_ct = sitk.ReadTransform(str(file)).TransformPoint
    box = np.array(spine().size) - 1.0
    points = spine().physical_points(np.random.default_rng(3).uniform(0, 1, (4000, 3)) * box)
    led = np.array([to_ct(point.tolist()) for point in bent()[0].apply(points)])
    off = np.linalg.norm(led - points, axis=1)
    assert np.median(off) < 0.02
    assert off.max() < 1.5


def flipped(volume: Volume) -> Volume:
    """The same image with its slices stored the other way round: left-handed indices."""
    matrix = volume.index_to_physical @ np.diag([1.0, 1.0, -1.0, 1.0])
    matrix[:3, 3] = volume.physical_points([[0, 0, volume.size[2] - 1]])[0]
    return Volume(volume.array[::-1], matrix)


@pytest.mark.parametrize(("turn", "way"), [(0.0, 1), (3.1, 1), (0.3, -1)])
def test_slicer_moves_every_bone_to_its_place(tmp_path: Path, turn: float, way: int) -> None:
    """By its own storage node, however far the world is turned from the CT."""
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    placed = poses(common=exp_se3([0.0, 0.6 * turn, 0.8 * turn, 80.0, -150.0, 60.0]))
    path = tmp_path / "spine_ct_to_world.h5"
    labels = spine() if way > 0 else flipped(spine())
    write(bent_grid(polyrigid_map(labels, placed), labels), path)
    storage, node = slicer.vtkMRMLTransformStorageNode(), slicer.vtkMRMLTransformNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    assert not node.IsLinear()
    to_world = node.GetTransformToParent()
    lps = np.array([-1.0, -1.0, 1.0])
    for label, pose in placed.items():
        points = voxels(label)[::20]
        moved = np.array([to_world.TransformPoint(*(point * lps)) for point in points]) * lps
        assert np.linalg.norm(moved - transform_points(pose, points), axis=1).max() < 0.1


def test_nonsense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no bone"):
        polyrigid_map(spine(), {})
    with pytest.raises(ValueError, match="label 20 is not rigid"):
        polyrigid_map(spine(), {20: np.diag([1.0, 1.0, -1.0, 1.0])})
    with pytest.raises(InputError, match=r"19.*is not in the segmentation"):
        polyrigid_map(spine(), {19: np.eye(4)})
    moves, place = np.zeros((3, 4, 5, 3)), np.eye(4)
    path = tmp_path / "no.h5"
    with pytest.raises(ValueError, match="rigid"):
        write_itk_bent(np.zeros((4, 4)), moves, place, path)
    with pytest.raises(ValueError, match="finite"):
        write_itk_bent(np.eye(4), moves + np.nan, place, path)
    with pytest.raises(ValueError, match=r"\(3, 4, 5\)"):
        write_itk_bent(np.eye(4), moves[..., 0], place, path)
    assert not path.exists()
