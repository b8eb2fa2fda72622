"""The baselines of the benchmarks see what we see: otherwise a comparison says nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

from peer_report import markdown, race, ratio
from peer_views import Turntable, correlation, local_similarity, resample

from RadGSRegLib.drr import project_volume
from RadGSRegLib.geometry import Camera, Volume, compose_about, exp_se3

CENTRE = np.array([12.0, -30.0, 55.0])
PIXELS, PIXEL_MM = 40, 2.5
SOURCES = [CENTRE + np.array(p) for p in ([60.0, -740.0, 40.0], [700.0, 130.0, -150.0])]


@pytest.fixture
def volume() -> Volume:
    """A smooth blob about `CENTRE` on an oblique grid that is also mirrored."""
    array = np.zeros((24, 20, 22))
    array[8:16, 6:13, 5:15] = np.random.default_rng(4).random((8, 7, 10))
    matrix = exp_se3([0.3, 0.5, -0.2, 0.0, 0.0, 0.0])
    matrix[:3, :3] = matrix[:3, :3] * [2.0, 2.5, -3.0]
    matrix[:3, 3] = CENTRE - matrix[:3, :3] @ [10.0, 9.0, 12.0]
    return Volume(gaussian_filter(array, 1.8).astype(np.float32), matrix)


@pytest.fixture
def table() -> Turntable:
    """Two sources, neither at the same distance nor level."""
    return Turntable.of(SOURCES, CENTRE)


POSE = compose_about(np.eye(4), [0.2, -0.1, 0.15, 3.0, -4.0, 2.0], CENTRE)


def ours(volume: Volume, table: Turntable) -> list[np.ndarray]:
    """The images that all should see."""
    return [
        project_volume(volume, c.intrinsic, c.world_to_camera @ POSE, c.size).numpy()
        for c in table.cameras(PIXELS, PIXEL_MM)
    ]


def differs(images: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The larger relative L1 of the two views."""
    pairs = zip(images, wanted, strict=True)
    return max(float(np.abs(a - b).sum() / b.sum()) for a, b in pairs)


def test_cameras_of_the_turntable(table: Turntable) -> None:
    for camera, source in zip(table.cameras(PIXELS, PIXEL_MM), SOURCES, strict=True):
        np.testing.assert_allclose(camera.source_world, source, atol=1e-9)
        middle = (PIXELS - 1) / 2
        np.testing.assert_allclose(camera.project(CENTRE[None])[0], [middle, middle], atol=1e-9)
        assert np.linalg.det(camera.world_to_camera[:3, :3]) == pytest.approx(1.0)


def test_resampled_radiographs_are_what_the_other_camera_sees(
    volume: Volume, table: Turntable
) -> None:
    wanted = table.cameras(PIXELS, PIXEL_MM)[0]
    turn = np.eye(4)
    turn[:3, :3] = exp_se3([0.03, -0.02, 0.4, 0, 0, 0])[:3, :3]
    focal = 1.6 * wanted.intrinsic[0, 0]
    intrinsic = np.array([[focal, 0.0, 60.0], [0.0, focal, 63.0], [0.0, 0.0, 1.0]])
    original = Camera(intrinsic, turn @ wanted.world_to_camera, 128, 128)
    pose = original.world_to_camera @ POSE
    taken = project_volume(volume, intrinsic, pose, original.size).numpy()
    assert differs([resample(taken, original, wanted)], ours(volume, table)[:1]) < 0.02


def test_rtk_sees_the_same(volume: Volume, table: Turntable) -> None:
    peer = pytest.importorskip(
        "peer_rtk", reason="itk-rtk or Py-BOBYQA is not installed", exc_type=ImportError
    )
    project = peer.RtkProjector(volume, table.cameras(PIXELS, PIXEL_MM))
    project(np.eye(4))
    assert differs(list(project(POSE)), ours(volume, table)) < 0.01


def test_itk_sees_the_same(volume: Volume, table: Turntable) -> None:
    peer = pytest.importorskip(
        "peer_itk", reason="itk-twoprojectionregistration is not installed", exc_type=ImportError
    )
    stage = peer.Stage(volume, CENTRE, table)
    np.testing.assert_allclose(stage.pose(stage.transform(POSE)), POSE, atol=1e-9)
    images = [stage.projector(view, POSE, PIXELS, PIXEL_MM)() for view in (0, 1)]
    # It takes every voxel one step late along the ray, and voxels as boxes.
    assert differs(images, ours(volume, table)) < 0.06


@pytest.mark.parametrize(("renderer", "most"), [("siddon", 0.05), ("trilinear", 0.005)])
def test_diffdrr_sees_the_same(
    volume: Volume, table: Turntable, renderer: str, most: float
) -> None:
    peer = pytest.importorskip(
        "peer_diffdrr", reason="diffdrr is not installed", exc_type=ImportError
    )
    project = peer.DiffdrrProjector(volume, table.cameras(PIXELS, PIXEL_MM), renderer)
    images = project(torch.as_tensor(POSE).float()).numpy()
    assert differs(list(images), ours(volume, table)) < most


def test_similarities_know_the_same_from_another() -> None:
    image, other = np.random.default_rng(1).random((2, 40, 40))
    for similarity in (correlation, local_similarity):
        assert similarity(image, 3.0 * image + 2.0) == pytest.approx(1.0, abs=1e-6)
        assert similarity(image, -image) == pytest.approx(-1.0, abs=1e-6)
        assert abs(similarity(image, other)) < 0.1


def test_race_takes_turns() -> None:
    order: list[str] = []
    times = race({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2)
    assert {name: len(t) for name, t in times.items()} == {"a": 2, "b": 2}
    changes = [x for n, x in enumerate(order) if n == 0 or order[n - 1] != x]
    assert "".join(changes) == "ababa"  # once each, then forth, then back
    assert ratio([2.0, 6.0, 4.0], [1.0, 2.0, 4.0]) == 2.0


def test_tables() -> None:
    text = markdown(["who", "ms"], [["a", 1234.5], ["b", 0.01234], ["c", None]])
    assert text.splitlines() == [
        "| who | ms |",
        "| --- | --- |",
        "| a | 1,234 |",
        "| b | 0.0123 |",
        "| c |  |",
    ]
