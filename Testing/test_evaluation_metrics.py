"""Pose metrics against hand-made cases and their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.geometry import Volume, compose_about, exp_se3
from RadGSRegLib.measures import (
    SUBMILLIMETRE_MM,
    capture_bins,
    capture_range_mm,
    centre_error_mm,
    describe,
    drift_mm,
    in_plane_and_depth_mm,
    is_false_alarm,
    is_silent_failure,
    mtre,
    rotation_error_deg,
    success_rate,
    target_points,
)

finite = st.floats(-1.0, 1.0)
twists = st.lists(finite, min_size=6, max_size=6).map(np.array)


@given(twists, twists)
def test_mtre_is_the_mean_distance_of_moved_points(first: np.ndarray, second: np.ndarray) -> None:
    points = np.random.default_rng(1).normal(size=(50, 3)) * 20
    a, b = exp_se3(first), exp_se3(second)
    expected = np.mean([np.linalg.norm((a @ [*p, 1.0])[:3] - (b @ [*p, 1.0])[:3]) for p in points])
    assert mtre(points, a, b) == pytest.approx(expected, abs=1e-10)
    assert mtre(points, a, a) == 0.0


def test_a_pure_shift_is_its_length() -> None:
    points = np.random.default_rng(2).normal(size=(10, 3))
    shift = exp_se3([0, 0, 0, 3.0, 0.0, 4.0])
    assert mtre(points, shift, np.eye(4)) == pytest.approx(5.0)
    assert rotation_error_deg(shift, np.eye(4)) == pytest.approx(0.0, abs=1e-6)
    assert centre_error_mm([1, 2, 3], shift, np.eye(4)) == pytest.approx(5.0)


def test_turning_about_the_centre_leaves_the_centre() -> None:
    centre = np.array([10.0, -20.0, 30.0])
    turned = compose_about(np.eye(4), [0.0, 0.3, 0.0, 0, 0, 0], centre)
    assert centre_error_mm(centre, turned, np.eye(4)) == pytest.approx(0.0, abs=1e-9)
    assert rotation_error_deg(turned, np.eye(4)) == pytest.approx(np.degrees(0.3))


def test_mtre_refuses_points_of_another_shape() -> None:
    with pytest.raises(ValueError, match="shape"):
        mtre(np.zeros((0, 3)), np.eye(4), np.eye(4))


def test_across_and_along_the_beam_are_told_apart() -> None:
    points = np.array([[10.0, 0, 0], [-10.0, 0, 0], [0, 10.0, 0], [0, -10.0, 0]])
    source = [0.0, -600.0, 0.0]
    along = exp_se3([0, 0, 0, 0, 7.0, 0])
    assert in_plane_and_depth_mm(points, along, np.eye(4), source) == pytest.approx((0.0, 7.0))
    across = exp_se3([0, 0, 0, -3.0, 0, 4.0])
    assert in_plane_and_depth_mm(points, across, np.eye(4), source) == pytest.approx((5.0, 0.0))
    # A quarter turn about z: (10, 0) goes to (0, 10), so that each point is moved by 10 in x and y.
    turned = exp_se3([0, 0, np.pi / 2, 0, 0, 0])
    assert in_plane_and_depth_mm(points, turned, np.eye(4), source) == pytest.approx((10.0, 10.0))
    with pytest.raises(ValueError, match="source"):
        in_plane_and_depth_mm(points, along, np.eye(4), [0, 0, 0])
    with pytest.raises(ValueError, match="shape"):
        in_plane_and_depth_mm(np.zeros((0, 3)), along, np.eye(4), source)


@given(twists, twists, twists, st.floats(-50.0, 50.0))
def test_a_shift_along_the_true_beam_is_depth_alone(
    true_twist: np.ndarray, error: np.ndarray, world: np.ndarray, shift_mm: float
) -> None:
    points = np.random.default_rng(3).normal(size=(60, 3)) * 20 + [5.0, -40.0, 9.0]
    true = exp_se3(true_twist * [1, 1, 1, 30, 30, 30])
    centre = (true @ [*points.mean(axis=0), 1.0])[:3]
    source = np.array([700.0, 80.0, -20.0])
    shifted = true.copy()
    shifted[:3, 3] += shift_mm * (centre - source) / np.linalg.norm(centre - source)
    across, along = in_plane_and_depth_mm(points, shifted, true, source)
    assert across == pytest.approx(0.0, abs=1e-9)
    assert along == pytest.approx(abs(shift_mm), abs=1e-9)
    estimated = true @ exp_se3(error * [0.2, 0.2, 0.2, 5, 5, 5])
    parts = in_plane_and_depth_mm(points, estimated, true, source)
    whole = mtre(points, estimated, true)
    assert max(parts) <= whole + 1e-9 <= sum(parts) + 2e-9
    # Where the world's axes point does not matter.
    other = exp_se3(world)
    again = in_plane_and_depth_mm(
        points, other @ estimated, other @ true, (other @ [*source, 1.0])[:3]
    )
    assert again == pytest.approx(parts, abs=1e-9)


def test_drift_is_what_the_end_is_off_more_than_the_beginning() -> None:
    points = np.random.default_rng(4).normal(size=(30, 3)) * 20
    true = [exp_se3([0.01 * n, 0, 0, n, 2 * n, 0]) for n in range(25)]
    shifts = [np.array([0.1, 0.2 * (n >= 15), 0.0]) for n in range(25)]
    poses = [exp_se3([0, 0, 0, *s]) @ t for s, t in zip(shifts, true, strict=True)]
    # What is off all along is no drift.
    assert drift_mm(points, poses, true) == pytest.approx(0.2)
    assert drift_mm(points, poses[:15], true[:15]) == pytest.approx(0.0)
    assert np.isnan(drift_mm(points, [], []))
    with pytest.raises(ValueError, match="zip"):
        drift_mm(points, poses, true[:3])


def test_success_needs_less_than_the_threshold() -> None:
    errors = [0.2, 0.999, 1.0, 1.999, 2.0, np.nan, np.inf, 30.0]
    assert success_rate(errors) == pytest.approx(4 / 8)
    assert success_rate(errors, SUBMILLIMETRE_MM) == pytest.approx(2 / 8)
    assert np.isnan(success_rate([]))


@pytest.mark.parametrize(
    ("status", "error", "silent", "alarm"),
    [
        ("ok", 1.99, False, False),
        ("ok", 2.0, True, False),
        ("ok", float("nan"), True, False),
        ("uncertain", 1.99, False, True),
        ("uncertain", 2.0, False, False),
        ("failed", 0.1, False, True),
        ("failed", 50.0, False, False),
    ],
)
def test_silent_failures_and_false_alarms(
    status: str, error: float, silent: bool, alarm: bool
) -> None:
    assert is_silent_failure(status, error) is silent  # type: ignore[arg-type]
    assert is_false_alarm(status, error) is alarm  # type: ignore[arg-type]


def test_capture_range_ends_before_the_first_bin_that_fails() -> None:
    starts = np.concatenate([np.full(20, 2.0), np.full(20, 7.0), np.full(20, 12.0), [17.0]])
    errors = np.zeros(61)
    errors[20] = 5.0  # 19 of 20 succeed in the second bin: exactly 95 %
    assert capture_range_mm(starts, errors) == 20.0
    errors[[40, 41]] = 5.0  # 18 of 20 in the third bin
    assert capture_range_mm(starts, errors) == 10.0
    errors[[0, 1]] = 5.0
    assert capture_range_mm(starts, errors) == 0.0


def test_bins_are_closed_below_and_passed_over_when_empty() -> None:
    bins = capture_bins([0.0, 4.999, 5.0, 31.0], [0.0, 9.0, 0.0, 0.0])
    assert bins == [(0.0, 5.0, 2, 0.5), (5.0, 10.0, 1, 1.0), (30.0, 35.0, 1, 1.0)]
    assert capture_range_mm([5.0, 31.0], [0.0, 0.0]) == 35.0
    assert capture_range_mm([], []) == 0.0


def test_targets_lie_on_the_surface_and_are_the_same_every_time() -> None:
    array = np.zeros((12, 14, 16), dtype=np.uint8)
    array[2:10, 3:11, 4:12] = 7
    grid = np.diag([0.5, 0.7, 0.9, 1.0])
    grid[:3, 3] = [-5.0, 6.0, 7.0]
    points = target_points(Volume(array, grid), 7)
    assert len(points) == 8**3 - 6**3
    index = (points - [-5.0, 6.0, 7.0]) / [0.5, 0.7, 0.9]
    inside = ((index > [4.5, 3.5, 2.5]) & (index < [10.5, 9.5, 8.5])).all(axis=1)
    assert not inside.any()
    some = target_points(Volume(array, grid), 7, count=100)
    assert len(some) == 100
    assert np.array_equal(some, target_points(Volume(array, grid), 7, count=100))
    with pytest.raises(ValueError, match="label 3"):
        target_points(Volume(array, grid), 3)


def test_describe_leaves_out_what_is_not_finite() -> None:
    said = describe([1.0, 2.0, 6.0, float("inf")])
    assert said == {
        "mean": 3.0,
        "median": 2.0,
        "std": pytest.approx(np.sqrt(7.0)),
        "min": 1.0,
        "max": 6.0,
    }
    assert np.isnan(describe([])["median"])
