"""Invariants of rigid poses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from RadGSRegLib.geometry import (
    compose_about,
    exp_se3,
    invert_rigid,
    is_rigid,
    log_se3,
    lps_to_ras,
    orthonormalize,
    ras_to_lps,
    rotation_angle_deg,
    skew,
    transform_points,
    twist_about,
)

small = st.floats(-1.7, 1.7)
millimetres = st.floats(-300, 300)


@st.composite
def twists(draw: st.DrawFn) -> np.ndarray:
    """Twists whose rotation stays below pi."""
    return np.array([draw(small) for _ in range(3)] + [draw(millimetres) for _ in range(3)])


points = arrays(np.float64, (5, 3), elements=millimetres)
centres = arrays(np.float64, 3, elements=millimetres)


@given(twists())
def test_log_undoes_exp(xi: np.ndarray) -> None:
    pose = exp_se3(xi)
    assert is_rigid(pose, 1e-9)
    np.testing.assert_allclose(log_se3(pose), xi, atol=1e-6)


@given(st.floats(1e-9, 1e-3), centres)
def test_exp_is_accurate_for_tiny_rotations(angle: float, moved: np.ndarray) -> None:
    """Against the power series of the matrix exponential."""
    import scipy.linalg

    xi = np.concatenate([[angle, -angle / 2, angle / 3], moved])
    generator = np.zeros((4, 4))
    generator[:3, :3], generator[:3, 3] = skew(xi[:3]), xi[3:]
    np.testing.assert_allclose(exp_se3(xi), scipy.linalg.expm(generator), atol=1e-9)


@given(arrays(np.float64, (3, 6), elements=small), arrays(np.float64, (3, 3), elements=small))
def test_several_twists_at_once_move_as_each_alone(xi: np.ndarray, centres: np.ndarray) -> None:
    poses = exp_se3(xi[::-1])
    moved = compose_about(poses, xi, centres)
    assert moved.shape == (3, 4, 4)
    for n in range(3):
        alone = compose_about(exp_se3(xi[2 - n]), xi[n], centres[n])
        np.testing.assert_allclose(moved[n], alone, atol=1e-12)


@given(twists(), points)
def test_inverse(xi: np.ndarray, x: np.ndarray) -> None:
    pose = exp_se3(xi)
    back = transform_points(invert_rigid(pose), transform_points(pose, x))
    np.testing.assert_allclose(back, x, atol=1e-8)


@given(twists(), twists(), points)
def test_composition_is_matrix_product(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> None:
    one, two = exp_se3(a), exp_se3(b)
    np.testing.assert_allclose(
        transform_points(one @ two, x), transform_points(one, transform_points(two, x)), atol=1e-7
    )


@given(twists(), twists(), centres)
def test_twist_about_undoes_compose_about(
    a: np.ndarray, xi: np.ndarray, centre: np.ndarray
) -> None:
    pose = exp_se3(a)
    np.testing.assert_allclose(
        twist_about(pose, compose_about(pose, xi, centre), centre), xi, atol=1e-5
    )


@given(twists(), centres, arrays(np.float64, 3, elements=small))
def test_rotation_about_a_centre_leaves_it_where_it_is(
    a: np.ndarray, centre: np.ndarray, rotation: np.ndarray
) -> None:
    pose = exp_se3(a)
    turned = compose_about(pose, np.concatenate([rotation, np.zeros(3)]), centre)
    np.testing.assert_allclose(
        transform_points(turned, centre[None]), transform_points(pose, centre[None]), atol=1e-7
    )


@given(twists(), points)
def test_lps_and_ras(xi: np.ndarray, x: np.ndarray) -> None:
    """The same motion seen in the other frame: flip the points in, flip the result out."""
    pose = exp_se3(xi)
    flip = np.array([-1.0, -1.0, 1.0])
    np.testing.assert_allclose(
        transform_points(lps_to_ras(pose), x * flip), transform_points(pose, x) * flip, atol=1e-8
    )
    np.testing.assert_allclose(ras_to_lps(lps_to_ras(pose)), pose)


@given(twists(), arrays(np.float64, (3, 3), elements=st.floats(-1e-3, 1e-3)))
def test_orthonormalize_returns_a_near_rotation(xi: np.ndarray, noise: np.ndarray) -> None:
    pose = exp_se3(xi)
    disturbed = pose.copy()
    disturbed[:3, :3] += noise
    mended = orthonormalize(disturbed)
    assert is_rigid(mended, 1e-12)
    assert np.abs(mended - pose)[:3, :3].max() < 1e-2


def test_is_rigid_refuses_mirrors_scales_and_nan() -> None:
    assert is_rigid(np.eye(4))
    assert not is_rigid(np.diag([1.0, 1.0, -1.0, 1.0]))
    assert not is_rigid(np.diag([1.1, 1.0, 1.0, 1.0]))
    assert not is_rigid(np.full((4, 4), np.nan))
    assert not is_rigid(np.eye(3))


def test_rotation_angle() -> None:
    assert rotation_angle_deg(exp_se3([0, 0, np.radians(30), 5, 5, 5])) == pytest.approx(30)
