"""The motion model: filter and smoother against least squares over all frames at once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from RadGSRegLib.geometry import Rigid, translation
from RadGSRegLib.tracking import Agility, MotionModel, Moving, agility_of
from RadGSRegLib.tracking import bounds as bounds_of_tracking

CENTRE = np.array([10.0, -20.0, 30.0])
AGILITY = Agility(turn=1e-4, shift=0.5)


def least_squares(
    times: np.ndarray, measured: dict[int, float], sigma: float, speed_sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Places and their deviations of a point on a line, all frames at once: constant velocity,
    disturbed by white acceleration, known at some times."""
    count = len(times)
    rows, values = [], []

    def add(coefficients: np.ndarray, value: np.ndarray, covariance: np.ndarray) -> None:
        root = np.linalg.cholesky(np.linalg.inv(covariance)).T
        rows.append(root @ coefficients)
        values.append(root @ value)

    first = min(measured)
    begin = np.zeros((1, 2 * count))
    begin[0, 2 * first + 1] = 1.0
    add(begin, np.zeros(1), np.array([[speed_sigma**2]]))
    for number, place in measured.items():
        seen = np.zeros((1, 2 * count))
        seen[0, 2 * number] = 1.0
        add(seen, np.array([place]), np.array([[sigma**2]]))
    for n in range(count - 1):
        dt = times[n + 1] - times[n]
        step = np.zeros((2, 2 * count))
        step[:, 2 * n + 2 : 2 * n + 4] = np.eye(2)
        step[:, 2 * n : 2 * n + 2] = -np.array([[1.0, dt], [0.0, 1.0]])
        power = AGILITY.shift
        noise = power * np.array([[dt**3 / 3.0, dt**2 / 2.0], [dt**2 / 2.0, dt]])
        add(step, np.zeros(2), noise)
    a, b = np.vstack(rows), np.concatenate(values)
    normal = a.T @ a
    solution = np.linalg.solve(normal, a.T @ b)
    return solution[::2], np.sqrt(np.diag(np.linalg.inv(normal)))[::2]


def test_smoothing_is_least_squares_over_all_frames() -> None:
    times = np.array([0.0, 1.0, 2.0, 3.5, 4.0, 5.0, 6.0, 7.0])
    rng = np.random.default_rng(3)
    places = {n: float(rng.normal(0.0, 4.0)) for n in (0, 1, 2, 5, 6)}
    sigma = 0.3
    covariance = np.diag([1e-6] * 3 + [sigma**2] * 3)
    measured = {n: (translation([0.0, place, 0.0]), covariance) for n, place in places.items()}

    smoothed = MotionModel(CENTRE, AGILITY).smoothed(times, measured)

    expected, deviations = least_squares(times, places, sigma, bounds_of_tracking.VELOCITY_MM)
    np.testing.assert_allclose([s.ct_to_world[1, 3] for s in smoothed], expected, atol=1e-6)
    own = [np.sqrt(s.pose_covariance[4, 4]) for s in smoothed]
    np.testing.assert_allclose(own, deviations, rtol=1e-6)


def test_a_gap_grows_unsure_towards_its_middle() -> None:
    covariance = np.diag([1e-6] * 3 + [0.01] * 3)
    measured = {
        n: (translation([2.0 * n, 0.0, 0.0]), covariance) for n in (*range(5), *range(12, 16))
    }
    smoothed = MotionModel(CENTRE, AGILITY).smoothed(list(map(float, range(16))), measured)
    deviations = [float(np.sqrt(s.pose_covariance[3, 3])) for s in smoothed]
    assert max(deviations) == max(deviations[7:10])
    assert max(deviations) > 5.0 * deviations[3]
    # Straight on: the path is known, however unsure.
    assert smoothed[8].ct_to_world[0, 3] == pytest.approx(16.0, abs=1e-3)


def test_a_steady_turn_about_the_centre_goes_on() -> None:
    step = Rotation.from_rotvec(np.radians([1.0, 2.0, -2.0]))
    poses = []
    turn = Rotation.from_rotvec([0.3, 0.2, -0.1])
    for n in range(12):
        poses.append(Rigid.carrying(turn.as_matrix(), CENTRE, CENTRE + [3.0 * n, 0.0, n]).matrix)
        turn = turn * step
    model = MotionModel(CENTRE, AGILITY)
    state = model.begun(poses[0], np.eye(6) * 1e-8)
    for pose in poses[1:-1]:
        state = model.corrected(model.after(state, 1.0)[0], pose, np.eye(6) * 1e-8)
    ahead, _ = model.after(state, 1.0)
    np.testing.assert_allclose(ahead.ct_to_world, poses[-1], atol=1e-3)
    back, _ = model.after(ahead, -1.0)
    np.testing.assert_allclose(back.ct_to_world, state.ct_to_world, atol=1e-9)


def test_a_run_says_how_it_moves() -> None:
    times = list(map(float, range(60)))
    still = {n: translation([1.0 * n, 0.0, 0.0]) for n in range(60)}
    swinging = {n: translation([12.0 * np.sin(2 * np.pi * n / 20), 0.0, 0.0]) for n in range(60)}
    calm, lively = agility_of(times, still, CENTRE), agility_of(times, swinging, CENTRE)
    assert calm is not None
    assert lively is not None
    assert calm.shift == pytest.approx(bounds_of_tracking.LEAST_ACCELERATION_MM**2)
    assert lively.shift > 50.0 * calm.shift
    assert agility_of(times, {0: still[0], 2: still[2]}, CENTRE) is None
    # A gap is said to be as unsure as it is, or more.
    known = {n: (pose, np.eye(6) * 1e-4) for n, pose in swinging.items() if not 24 <= n < 34}
    for n, state in enumerate(MotionModel(CENTRE, lively).smoothed(times, known)):
        apart = abs(state.ct_to_world[0, 3] - swinging[n][0, 3])
        assert apart < 3.0 * np.sqrt(state.pose_covariance[3, 3])


def test_doubtful_poses_count_where_the_motion_leads_there() -> None:
    times = list(map(float, range(14)))
    path = [translation(np.array([3.0 * np.sin(0.4 * n), 0.0, 0.0])) for n in range(14)]
    tight, loose = 1e-4 * np.eye(6), np.diag([1e-3] * 3 + [1.0] * 3)
    known = {n: (path[n], tight) for n in range(4, 9)}
    doubtful = {n: (path[n], loose) for n in (0, 1, 2, 3, 9, 10, 11, 12, 13)}
    away = translation(np.array([300.0, 0.0, 0.0]))  # another bone's
    model = MotionModel(CENTRE, Agility(1e-4, 0.2))

    def off(states: list[Moving]) -> np.ndarray:
        return np.array([s.ct_to_world[0, 3] - p[0, 3] for s, p in zip(states, path, strict=True)])

    without, with_them = (off(model.smoothed(times, known, more)) for more in (None, doubtful))
    for ends in (slice(0, 2), slice(11, 14)):
        assert np.abs(with_them[ends]).max() < 1.0 < np.abs(without[ends]).max()
    far = off(model.smoothed(times, known, dict.fromkeys(doubtful, (away, loose))))
    np.testing.assert_allclose(far, without, atol=1e-6)
