"""Each baseline does what it is there for: it ends better than it began, always the same way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ball import CENTRE_CT, POSE, ball_case
from registration_scenes import error_mm, one_thread, simulated, truth

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Volume, compose_about, transform_points
from RadGSRegLib.measures import reconstruction_quality
from RadGSRegLib.methods.baselines import gradient_descent, voxel_fit
from RadGSRegLib.simulation import SimulatedCase
from RadGSRegLib.system import Progress

one_thread()

QUICK_VOXELS = voxel_fit.VoxelOptions(steps=25, spacing_mm=4.0, pixel_mm=3.0, edge_mm=80.0)
QUICK_DESCENT = gradient_descent.DescentOptions(
    scales=(gradient_descent.Scale(4.0, 3.0, 60.0, 25), gradient_descent.Scale(2.0, 1.5, 50.0, 15))
)


def off(scene: SimulatedCase, twist: list[float]) -> np.ndarray:
    """The truth, moved by a twist about the middle of the vertebra's surface."""
    return compose_about(truth(scene), twist, np.mean(scene.truth["points_ct"], axis=0))


def test_voxels_come_nearer_to_the_vertebra_and_to_the_x_rays() -> None:
    case = ball_case()
    centre = transform_points(POSE, CENTRE_CT[None])[0]
    fit = voxel_fit.reconstruct_voxels(case.views, centre, QUICK_VOXELS)
    assert fit.losses[-1] < 0.4 * fit.losses[0]
    empty = Volume(np.zeros_like(fit.volume.array), fit.volume.index_to_physical)
    before, after = (
        reconstruction_quality(v, case.ct, case.labels, case.label, POSE)
        for v in (empty, fit.volume)
    )
    assert after["psnr_db"] > before["psnr_db"] + 1.0
    assert after["ssim"] > before["ssim"] + 0.05
    assert fit.volume.array.min() >= 0.0
    # The middle of the ball holds more than what lies outside it.
    ijk = np.round(transform_points(fit.volume.physical_to_index, centre[None])[0]).astype(int)
    assert fit.volume.array[tuple(ijk[::-1])] > 5.0 * np.median(fit.volume.array)


def test_voxels_are_the_same_every_time_and_stop_when_asked() -> None:
    case = ball_case()
    centre = transform_points(POSE, CENTRE_CT[None])[0]
    few = voxel_fit.VoxelOptions(steps=3, spacing_mm=4.0, pixel_mm=3.0, edge_mm=80.0)
    one, two = (voxel_fit.reconstruct_voxels(case.views, centre, few) for _ in range(2))
    assert np.allclose(one.volume.array, two.volume.array, atol=1e-7)
    with pytest.raises(Cancelled):
        voxel_fit.reconstruct_voxels(case.views, centre, few, Progress(lambda f, m: f < 0.5))


def test_descent_comes_down_to_the_pose_from_nearby() -> None:
    scene = simulated("clean")
    start = off(scene, [0.05, -0.04, 0.05, 3.0, -3.0, 2.0])
    poses: list[np.ndarray] = []
    watched = Progress(lambda f, m: True, on_pose=poses.append)
    found = gradient_descent.descend(scene.case, start, QUICK_DESCENT, watched)
    assert error_mm(scene, start) > 4.0
    assert error_mm(scene, found.ct_to_world) < 0.6 * error_mm(scene, start)
    assert found.similarities[-1] > found.similarities[0] + 0.05
    assert error_mm(scene, poses[-1]) < error_mm(scene, poses[0])


def test_descent_needs_no_polarity() -> None:
    """A ball dark instead of bright is found as well: its centre, which is all a ball has."""
    start = compose_about(POSE, [0.0, 0.0, 0.0, 5.0, -4.0, 3.0], CENTRE_CT)
    ends = []
    for dark in (False, True):
        found = gradient_descent.descend(ball_case(dark=dark), start, QUICK_DESCENT)
        ends.append(transform_points(found.ct_to_world, CENTRE_CT[None])[0])
    aim = transform_points(POSE, CENTRE_CT[None])[0]
    assert np.linalg.norm(ends[0] - aim) < 1.0
    assert np.linalg.norm(ends[1] - aim) < 1.0


def test_the_slope_of_the_descent_is_the_similaritys() -> None:
    """A step along the slope that the Jacobian gives makes the pictures more alike."""
    scene = simulated("clean")
    start = off(scene, [0.0, 0.03, 0.0, 2.0, 0.0, 0.0])
    once = gradient_descent.DescentOptions(
        scales=(gradient_descent.Scale(3.0, 2.0, 60.0, 1),), rotation_deg=0.3, shift_mm=0.3
    )
    found = gradient_descent.descend(scene.case, start, once)
    assert found.similarities[-1] > found.similarities[0]
    again = gradient_descent.descend(scene.case, start, once)
    assert np.array_equal(found.ct_to_world, again.ct_to_world)


def test_a_start_outside_the_x_rays_is_refused() -> None:
    far = compose_about(POSE, [0.0, 0.0, 0.0, 0.0, 0.0, 900.0], CENTRE_CT)
    with pytest.raises(InputError, match="shows next to nothing"):
        gradient_descent.descend(ball_case(), far, QUICK_DESCENT)


def test_similarity_knows_equal_pictures_up_to_gain_and_offset() -> None:
    picture = torch.rand(24, 26, generator=torch.Generator().manual_seed(3))
    seen = gradient_descent.Window(None, picture, torch.ones_like(picture), 0.0, 1.0)  # type: ignore[arg-type]
    measure = gradient_descent.Similarity(seen, 1, 4.0)
    assert float(measure(0.7 * picture / picture.max())) == pytest.approx(1.0, abs=0.01)
    assert float(gradient_descent.Similarity(seen, -1, 4.0)(picture)) < -0.9
