"""X-rays that contradict the others are named, and right ones that are badly displayed are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from test_tomography import CENTRE, about_centre, shown

from RadGSRegLib.cases import View
from RadGSRegLib.drr import SystemMatrix
from RadGSRegLib.geometry import Camera
from RadGSRegLib.reconstruction import Deadline, cube
from RadGSRegLib.system import Progress
from RadGSRegLib.tomography import bounds, solve
from RadGSRegLib.tomography.beams import whole_beams
from RadGSRegLib.tomography.consistency import contradictions
from RadGSRegLib.tomography.likeness import (
    agreement,
    leads,
    likeness,
    likeness_moved,
    moved_cameras,
)
from RadGSRegLib.tomography.watch import Watch
from RadGSRegLib.views import prepare_views

GRID = cube(CENTRE, 200.0, 6.0)


def turned(camera: Camera, degrees: float) -> Camera:
    """The camera turned about the world's z axis through the centre."""
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = CENTRE - turn[:3, :3] @ CENTRE
    return Camera(camera.intrinsic, camera.world_to_camera @ turn, *camera.size)


@pytest.fixture(scope="module")
def views() -> list[View]:
    return shown(about_centre(16, pixels=64))


def named(views: list[View]) -> list[str]:
    beams = whole_beams(prepare_views(views), CENTRE, 64)
    _, odd = contradictions(beams, GRID)
    return [beams.names[n] for n in odd]


def smooth(seed: int, pixels: float) -> torch.Tensor:
    """A random picture (1, 64, 64), blurred by so many pixels, with a deviation of 1."""
    noise = np.random.default_rng(seed).normal(size=(1, 64, 64))
    picture = gaussian_filter(noise, (0, pixels, pixels))
    return torch.from_numpy(picture / picture.std()).float()


def test_right_views_are_not_named(views: list[View]) -> None:
    assert named(views) == []


def test_swapped_views_are_named(views: list[View]) -> None:
    swapped = list(views)
    swapped[3], swapped[9] = (
        replace(views[a], pixels=views[b].pixels) for a, b in ((3, 9), (9, 3))
    )
    assert named(swapped) == ["V03", "V09"]


def test_a_view_of_something_else_is_named(views: list[View]) -> None:
    strange = list(views)
    noise = smooth(1, 1.0)[0].numpy()
    strange[5] = replace(views[5], pixels=(5.0 * noise + 5.0).astype(np.float32))
    assert named(strange) == ["V05"]


def test_moved_cameras_are_not_tried_once_time_is_up(
    views: list[View], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every view is suspect here, and the time is up while the first one is looked at."""
    deadline, calls = Deadline(None), list[int]()

    def moved(*_: object) -> float:
        calls.append(1)
        deadline.struck = True
        return -1.0

    monkeypatch.setattr("RadGSRegLib.tomography.consistency.likeness_moved", moved)
    monkeypatch.setattr(bounds, "LIKE_ENOUGH", 2.0)
    beams = whole_beams(prepare_views(views), CENTRE, 64)
    scores, odd = contradictions(beams, GRID, report=Watch(Progress(), "", deadline))
    assert len(calls) == 1
    assert odd == []
    assert np.isfinite(scores).all()


def test_agreement_sees_details_only() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand((1, 48, 48), generator=generator)
    weight = torch.ones_like(picture)
    assert agreement(picture, 3.0 * picture + 7.0, weight) == pytest.approx([1.0], abs=1e-3)
    other = torch.rand((1, 48, 48), generator=generator)
    assert abs(agreement(picture, other, weight)[0]) < 0.3


def test_a_lead_tells_a_poor_picture_from_one_of_another_place() -> None:
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(
        gaussian_filter(rng.normal(size=(1, 64, 64)), (0, 2, 2)) * 10
    ).float()
    noise = torch.from_numpy(gaussian_filter(rng.normal(size=(1, 64, 64)), (0, 1, 1)) * 5).float()
    weight = torch.ones_like(picture)
    poor = picture + noise
    assert agreement(poor, picture, weight)[0] < 0.8
    assert leads(poor, picture, weight, 4.0) == [float("inf")]
    # A pixel off is what a coarse prediction may be; three are another place.
    assert leads(picture.roll((0, 1), (1, 2)), picture, weight, 4.0) == [float("inf")]
    assert leads(picture.roll((3, 1), (1, 2)), picture, weight, 4.0)[0] < 0.1
    assert leads(picture.roll((5, 0), (1, 2)), picture, weight, 4.0)[0] < 0.0
    hidden = torch.zeros_like(picture)
    assert np.isnan(leads(picture, picture, hidden, 4.0)[0])


def test_likeness_sees_through_contrast_that_changes_from_place_to_place() -> None:
    """And a steep edge, such as of the skin beside burnt-out air, does not outweigh all details."""
    picture, weight = smooth(0, 2.0), torch.ones(1, 64, 64)
    contrast = torch.linspace(0.3, 3.0, 64)
    edge = 60.0 * torch.sigmoid((torch.arange(64.0) - 14.0) / 1.5)
    shown_so = picture * contrast + edge
    assert likeness(picture, picture, weight) == pytest.approx([1.0], abs=1e-3)
    assert agreement(picture, shown_so, weight)[0] < 0.5
    assert likeness(picture, shown_so, weight)[0] > 0.7
    assert abs(likeness(smooth(3, 2.0), picture, weight)[0]) < 0.2


def test_of_a_hidden_view_nothing_is_said() -> None:
    picture = smooth(0, 2.0)
    for measure in (agreement, likeness):
        assert np.isnan(measure(picture, picture, torch.zeros_like(picture))[0])


def test_cameras_are_moved_about_the_centre() -> None:
    camera = about_centre(3)[1]
    moved = moved_cameras(camera, CENTRE)
    turns, shifts = 26 * len(bounds.MOVED_DEG), 8 * len(bounds.MOVED_MM)
    assert len(moved) == turns + shifts
    at = np.array([*CENTRE, 1.0])
    before = (camera.world_to_camera @ at)[:3]
    away = [np.linalg.norm((c.world_to_camera @ at)[:3] - before) for c in moved]
    assert sum(mm < 1e-6 for mm in away) == turns
    np.testing.assert_allclose(
        sorted(mm for mm in away if mm >= 1e-6), np.repeat(bounds.MOVED_MM, 8), atol=1e-9
    )

    def rotation(camera: Camera) -> np.ndarray:
        return camera.world_to_camera[:3, :3]

    turned_by = [
        np.degrees(np.arccos((np.trace(rotation(c) @ rotation(camera).T) - 1.0) / 2.0))
        for c in moved
        if np.linalg.norm((c.world_to_camera @ at)[:3] - before) < 1e-6
    ]
    assert sorted({round(angle, 6) for angle in turned_by}) == list(bounds.MOVED_DEG)


def test_a_turned_view_is_more_like_what_a_moved_camera_sees(views: list[View]) -> None:
    beams = whole_beams(prepare_views(views), CENTRE, 64)
    shape = (GRID.size[2], GRID.size[1], GRID.size[0])
    matrix = SystemMatrix(beams.cameras, GRID.index_to_world, shape)
    voxels = solve(matrix, beams.values, beams.weight, torch.zeros(shape), 2)
    for n in (0, 1, 5):
        wanted, weight = beams.values[n], beams.weight[n]
        own, moved = [], []
        for degrees in (0.0, 10.0):
            camera = turned(beams.cameras[n], degrees)
            image = SystemMatrix([camera], GRID.index_to_world, shape).forward(voxels)
            own += likeness(image, wanted[None], weight[None])
            moved.append(likeness_moved(voxels, GRID, camera, wanted, weight))
        assert moved[0] < own[0]
        # Turned back by 10 degrees it is as it was.
        assert moved[1] == pytest.approx(own[0], abs=1e-3)
        assert moved[1] > own[1]
