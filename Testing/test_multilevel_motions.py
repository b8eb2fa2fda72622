"""How neighbours have moved against one another: what is known is given back, with its errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tower import CENTRES_CT, POSES, spine, tower_case

from RadGSRegLib.geometry import compose_about, exp_se3, transform_points
from RadGSRegLib.multilevel import SpineRegistration, relative_motions
from RadGSRegLib.multilevel.motions import motion_jacobian

Array = NDArray[np.float64]
CASE = tower_case()


def numbers(size: int, most: float) -> st.SearchStrategy[Array]:
    part = st.floats(-most, most, allow_nan=False, allow_subnormal=False)
    return st.lists(part, min_size=size, max_size=size).map(np.array)


def twists(rad: float, mm: float) -> st.SearchStrategy[Array]:
    return st.tuples(numbers(3, rad), numbers(3, mm)).map(np.concatenate)


def at(poses: dict[int, Array], covariance: Array | None = None) -> SpineRegistration:
    """The tower at these poses."""
    made = spine(CASE)
    levels = {n: replace(made.levels[n], ct_to_world=pose) for n, pose in poses.items()}
    joint = made.joint_covariance if covariance is None else covariance
    return replace(made, levels=levels, joint_covariance=joint)


@given(twists(1.5, 300.0))
def test_what_moves_all_alike_is_no_motion(together: Array) -> None:
    before = relative_motions(at(POSES))
    after = relative_motions(at({n: exp_se3(together) @ pose for n, pose in POSES.items()}))
    assert [(m.upper, m.lower) for m in after] == [(21, 22), (22, 23)]
    for first, other in zip(before, after, strict=True):
        assert np.allclose(first.shift_mm, other.shift_mm, atol=1e-9)
        assert np.allclose(first.turn_deg, other.turn_deg, atol=1e-9)
        assert np.allclose(first.shift_sigma_mm, other.shift_sigma_mm, atol=1e-9)
        assert np.allclose(first.turn_sigma_deg, other.turn_sigma_deg, atol=1e-9)


@given(twists(1.5, 300.0))
def test_as_in_the_ct_there_is_none(together: Array) -> None:
    for motion in relative_motions(at(dict.fromkeys(POSES, exp_se3(together)))):
        assert np.allclose(motion.motion_ct, np.eye(4), atol=1e-9)
        assert np.allclose(motion.turn_deg, 0.0, atol=1e-6)
        assert np.allclose(motion.shift_mm, 0.0, atol=1e-9)


@given(twists(1.5, 300.0), numbers(3, 1.0), numbers(3, 20.0))
def test_a_known_motion_is_given_back(together: Array, turn: Array, shift: Array) -> None:
    lower = exp_se3(together)
    # In the CT the upper one turns about its own centre, and is shifted.
    moved = compose_about(np.eye(4), [*turn, 0, 0, 0], CENTRES_CT[21])
    moved[:3, 3] += shift
    motion = relative_motions(at({21: lower @ moved, 22: lower, 23: lower}))[0]
    assert np.allclose(motion.shift_mm, shift, atol=1e-6)
    assert np.allclose(motion.turn_deg, np.degrees(turn), atol=1e-5)
    centre_world = transform_points(lower @ motion.motion_ct, np.array(CENTRES_CT[21]))
    assert np.allclose(centre_world, transform_points(lower @ moved, np.array(CENTRES_CT[21])))


@pytest.mark.parametrize(
    ("axis", "towards"),
    # Leaning forwards the head end (S) goes to the front (-P); tilting to the left it goes to L;
    # turning to its left the front (-P) goes to L.
    [(0, ([0, 0, 1], 1, -1)), (1, ([0, 0, 1], 0, 1)), (2, ([0, -1, 0], 0, 1))],
)
def test_signs_are_those_of_the_words(axis: int, towards: tuple[list[int], int, int]) -> None:
    moved = compose_about(np.eye(4), 0.1 * np.eye(6)[axis], CENTRES_CT[21])
    motion = relative_motions(at({21: moved, 22: np.eye(4), 23: np.eye(4)}))[0]
    assert motion.turn_deg[axis] == pytest.approx(np.degrees(0.1))
    end, along, sign = towards
    turned = Rotation.from_rotvec(motion.turn_deg, degrees=True).apply(end)
    assert turned[along] * sign > 0.05


def test_the_upper_one_is_the_one_above_whatever_the_order() -> None:
    down = relative_motions(at(POSES))
    reverse = {n: POSES[n] for n in (23, 22, 21)}
    up = relative_motions(at(reverse, np.kron(np.eye(3), np.eye(6))))
    assert [(m.upper, m.lower) for m in up] == [(22, 23), (21, 22)]
    assert np.allclose(up[1].motion_ct, down[0].motion_ct)


@given(twists(1.0, 50.0), twists(1.0, 20.0), st.integers(0, 2**31))
@settings(max_examples=30)
def test_the_derivatives_are_those_of_the_motion(
    together: Array, between: Array, seed: int
) -> None:
    lower = exp_se3(together)
    poses = {21: lower @ exp_se3(between), 22: lower}
    motion = relative_motions(at({**poses, 23: lower}))[0]
    jacobian = motion_jacobian(motion.motion_ct, CENTRES_CT[21], CENTRES_CT[22])
    step = 1e-5 * np.random.default_rng(seed).standard_normal(12)

    def figures(sign: float) -> Array:
        moved = {
            21: compose_about(poses[21], sign * step[:6], CENTRES_CT[21]),
            22: compose_about(poses[22], sign * step[6:], CENTRES_CT[22]),
        }
        there = relative_motions(at({**moved, 23: lower}))[0]
        return np.concatenate([np.radians(there.turn_deg), there.shift_mm])

    assert np.allclose(0.5 * (figures(1.0) - figures(-1.0)), jacobian @ step, atol=1e-8)


@pytest.mark.parametrize("seed", [0, 1])
def test_deviations_are_those_of_many_drawn_poses(seed: int) -> None:
    draw = np.random.default_rng(seed)
    root = draw.standard_normal((18, 18)) * np.tile([0.004] * 3 + [0.2] * 3, 3)[:, None]
    covariance = root @ root.T
    told = relative_motions(at(POSES, covariance))
    samples: list[list[Array]] = [[], []]
    for xi in draw.multivariate_normal(np.zeros(18), covariance, 3000):
        moved = {
            n: compose_about(pose, xi[6 * k : 6 * k + 6], CENTRES_CT[n])
            for k, (n, pose) in enumerate(POSES.items())
        }
        for kept, motion in zip(samples, relative_motions(at(moved, covariance)), strict=True):
            kept.append(np.concatenate([motion.turn_deg, motion.shift_mm]))
    for motion, kept in zip(told, samples, strict=True):
        deviations = np.concatenate([motion.turn_sigma_deg, motion.shift_sigma_mm])
        # The standard deviation of 3000 samples' own is 1.3 %.
        assert np.allclose(np.std(kept, axis=0), deviations, rtol=0.06)


def test_an_error_that_both_share_cancels() -> None:
    """All move alike in the world: by the covariance of one common twist, no motion is unsure."""
    centres = [np.array(CENTRES_CT[n]) for n in POSES]
    columns = []
    for common in np.eye(6):
        small = 1e-6 * common
        moved = [exp_se3(small) @ pose for pose in POSES.values()]
        rows = []
        for pose, there, centre in zip(POSES.values(), moved, centres, strict=True):
            spin = Rotation.from_matrix(pose[:3, :3].T @ there[:3, :3]).as_rotvec()
            drift = transform_points(there, centre) - transform_points(pose, centre)
            rows += [*spin, *(pose[:3, :3].T @ drift)]
        columns.append(np.array(rows) / 1e-6)
    root = np.array(columns).T * [0.01, 0.01, 0.01, 1.0, 1.0, 1.0]
    for motion in relative_motions(at(POSES, root @ root.T)):
        assert motion.turn_sigma_deg.max() < 1e-3
        assert motion.shift_sigma_mm.max() < 1e-3


def test_what_is_not_known_stays_unknown() -> None:
    motions = relative_motions(at(POSES, np.full((18, 18), np.nan)))
    assert all(np.isnan(motion.shift_sigma_mm).all() for motion in motions)
    with pytest.raises(ValueError, match="3 levels"):
        relative_motions(at(POSES, np.eye(12)))
