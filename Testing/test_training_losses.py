"""The paper's losses, each alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from RadGSRegLib.networks.rigid import apply_step, geodesic_angle, rotation_from_6d, step_from_raw
from RadGSRegLib.training import losses


def _pose(rotvec: list[float], shift: list[float]) -> torch.Tensor:
    out = torch.eye(4)[None]
    out[0, :3, :3] = torch.from_numpy(Rotation.from_rotvec(rotvec).as_matrix()).float()
    out[0, :3, 3] = torch.tensor(shift)
    return out


def test_total_variation_of_a_step():
    volume = torch.zeros(1, 4, 4, 4)
    volume[:, 2:] = 3.0
    # One of three differences along the first axis is 3, none along the others.
    assert losses.total_variation(volume) == pytest.approx(1.0)
    assert losses.total_variation(torch.ones(2, 4, 5, 6)) == 0


def test_ncc_knows_no_gain_and_no_offset():
    torch.manual_seed(1)
    a = torch.rand(2, 6, 7, 8)
    assert losses.ncc_loss(3 * a + 1, a) == pytest.approx(0.0, abs=1e-5)
    assert losses.ncc_loss(-a, a) == pytest.approx(2.0, abs=1e-5)
    assert losses.ncc_loss(torch.rand(2, 6, 7, 8), a) == pytest.approx(1.0, abs=0.2)


def test_ssim_is_monais():
    torch.manual_seed(2)
    theirs = pytest.importorskip("monai.losses").SSIMLoss
    for dims, shape in ((2, (2, 1, 24, 20)), (3, (2, 1, 14, 16, 12))):
        a, b = torch.rand(shape), torch.rand(shape)
        assert losses.ssim_loss(a, a, dims) == pytest.approx(0.0, abs=1e-5)
        wanted = float(theirs(spatial_dims=dims, data_range=1.0)(a, b))
        assert losses.ssim_loss(a, b, dims) == pytest.approx(wanted, abs=1e-5)


@given(st.floats(1e-5, 3.1), st.floats(0, 80))
def test_geodesic_loss_is_angle_plus_distance(angle, distance):
    axis = np.array([0.6, -0.48, 0.64])
    a = _pose([0.3, 0.2, -0.1], [1.0, 2.0, 3.0])
    b = a.clone()
    b[0, :3, :3] = (
        a[0, :3, :3] @ torch.from_numpy(Rotation.from_rotvec(angle * axis).as_matrix()).float()
    )
    b[0, :3, 3] += distance * torch.tensor([0.0, 0.6, 0.8])
    wanted = angle + distance / losses.TRANSLATION_MM
    assert float(losses.geodesic_loss(a, b)) == pytest.approx(wanted, abs=2e-3)


def test_geodesic_loss_has_a_slope_where_the_poses_agree():
    a = _pose([0.3, 0.2, -0.1], [1.0, 2.0, 3.0])
    b = a.clone().requires_grad_()
    losses.geodesic_loss(a, b).backward()
    assert torch.isfinite(b.grad).all()


def test_reconstruction_terms_are_scaled_and_least_at_the_truth():
    torch.manual_seed(3)
    measured = torch.rand(2, 2, 24, 24)
    empty = torch.zeros(2, 8, 8, 8)
    assert losses.reconstruction_terms(measured, measured, empty) == pytest.approx(0, abs=1e-5)
    far = losses.reconstruction_terms(measured * 0.5, measured, empty)
    assert far > 0.1
    # The unit of the line integrals does not matter, that of the volume is dense bone.
    assert losses.reconstruction_terms(measured * 5, measured * 10, empty) == pytest.approx(
        float(far), abs=1e-4
    )
    step = torch.zeros(2, 8, 8, 8)
    step[:, 4:] = losses.DENSE_BONE
    assert losses.reconstruction_terms(measured, measured, step) == pytest.approx(
        losses.LAMBDA_TV / 7, abs=1e-4
    )


def test_eq2_adds_effect_and_factual():
    torch.manual_seed(4)
    measured, other = torch.rand(1, 2, 24, 24), torch.rand(1, 2, 24, 24)
    volume = torch.rand(1, 8, 8, 8) * 0.01
    good, bad = (measured, volume), (other, volume)
    both = losses.counterfactual_reconstruction_loss(bad, good, measured)
    parts = losses.reconstruction_terms(*(other, measured, volume)) + losses.reconstruction_terms(
        measured, measured, volume
    )
    assert both == pytest.approx(float(parts), rel=1e-5)


def test_eq3_is_least_at_the_true_pose_and_eq4_the_sum():
    torch.manual_seed(5)
    volume = torch.rand(1, 16, 16, 16) * 0.02
    pose = _pose([0.1, 0.0, 0.2], [4.0, 0.0, -2.0])
    right = losses.registration_loss(volume, volume, pose, pose)
    assert right == pytest.approx(0.0, abs=1e-4)
    wrong = losses.registration_loss(volume, volume, pose, _pose([0, 0, 0], [0, 0, 0]))
    expected = losses.LAMBDA_GEODESIC * (math.hypot(0.1, 0.2) + math.hypot(4, 2) / 50)
    assert wrong == pytest.approx(expected, rel=1e-2)


def test_point_distance():
    points = torch.tensor([[[10.0, 0, 0], [-10.0, 0, 0]]])
    a, b = _pose([0, 0, 0], [0, 0, 0]), _pose([0, 0, 0], [3.0, 4.0, 0])
    assert losses.point_distance(points, a, b) == pytest.approx(5.0, rel=1e-4)
    quarter = _pose([0, 0, math.pi / 2], [0, 0, 0])
    assert losses.point_distance(points, a, quarter) == pytest.approx(10 * 2**0.5, rel=1e-4)


@given(st.lists(st.floats(-3, 3), min_size=9, max_size=9))
def test_raw_numbers_always_give_a_rigid_step(numbers):
    rotation, shift = step_from_raw(torch.tensor([numbers]))
    pose = apply_step(torch.eye(4)[None], rotation, shift)[0]
    assert torch.allclose(pose[:3, :3] @ pose[:3, :3].T, torch.eye(3), atol=1e-4)
    assert torch.linalg.det(pose[:3, :3]) == pytest.approx(1.0, abs=1e-4)
    assert torch.allclose(shift[0], 8.0 * torch.tensor(numbers[6:]))


def test_zeros_are_the_identity_and_six_numbers_any_rotation():
    rotation, shift = step_from_raw(torch.zeros(1, 9))
    assert torch.equal(rotation[0], torch.eye(3))
    assert (shift == 0).all()
    wanted = torch.from_numpy(Rotation.random(random_state=3).as_matrix()).float()
    found = rotation_from_6d(torch.cat([wanted[:, 0], wanted[:, 1]])[None])[0]
    assert float(geodesic_angle(wanted, found)) < 1e-3
