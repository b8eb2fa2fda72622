"""How a bone moves from frame to frame: constant velocity, disturbed; filtered and smoothed.

A pose is where the bone's centre is in the world, and its rotation; the error of a pose is a twist
about the centre along the CT's axes, as everywhere (`geometry.compose_about`), the velocity a
rotation vector along the CT's axes and a speed in the world, per frame. Rotation and translation
are carried on by themselves, so that no screw bends a straight path. Filter: error-state Kalman
filter (J. Sola, arXiv:1711.02508, 2017); smoother: Rauch, Tung and Striebel (AIAA J. 3, 1965).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import Array, Rigid, compose_about, twist_about
from . import bounds


@dataclass(frozen=True)
class Agility:
    """How strongly the motion is disturbed: power of white acceleration, rad^2 and mm^2 per cubed
    frame."""

    turn: float
    shift: float

    @classmethod
    def usual(cls) -> Agility:
        """Return that of a bone of which nothing is known."""
        return cls(np.radians(bounds.ACCELERATION_DEG) ** 2, bounds.ACCELERATION_MM**2)


@dataclass(frozen=True)
class Moving:
    """Where a bone is and how it moves: ``ct_to_world`` (4, 4), ``velocity`` (6,), and the
    covariance (12, 12) of both, the pose's twist first."""

    ct_to_world: Array
    velocity: Array
    covariance: Array

    @property
    def pose_covariance(self) -> Array:
        """That of the pose's twist (6, 6)."""
        return self.covariance[:6, :6]


class MotionModel:
    """Constant velocity of a bone whose centre is ``centre_ct`` (3,)."""

    def __init__(self, centre_ct: Array, agility: Agility) -> None:
        self.centre_ct = np.asarray(centre_ct, dtype=float)
        self.agility = agility

    def begun(self, ct_to_world: Array, covariance: Array) -> Moving:
        """Return what the first pose says: nothing of the velocity."""
        whole = np.zeros((12, 12))
        whole[:6, :6] = covariance
        turn, shift = np.radians(bounds.VELOCITY_DEG) ** 2, bounds.VELOCITY_MM**2
        whole[6:, 6:] = np.diag([turn] * 3 + [shift] * 3)
        return Moving(np.asarray(ct_to_world, dtype=float), np.zeros(6), whole)

    def after(self, state: Moving, frames: float) -> tuple[Moving, Array]:
        """Return the state so many frames later (negative: before), and how an error of the state
        becomes one there (12, 12)."""
        at, omega = Rigid(state.ct_to_world), state.velocity[:3]
        turned = Rotation.from_rotvec(frames * omega)
        rotation = at.rotation @ turned.as_matrix()
        centre = at.apply(self.centre_ct) + frames * state.velocity[3:]
        there = Rigid.carrying(rotation, self.centre_ct, centre).matrix
        carry = np.zeros((12, 12))
        back = turned.as_matrix().T
        carry[:3, :3] = back
        carry[3:6, 3:6] = back
        carry[:3, 6:9] = frames * np.eye(3)
        # Speeds are the world's, twists the CT's.
        carry[3:6, 9:] = frames * rotation.T
        carry[6:, 6:] = np.eye(6)
        noise = self._noise(abs(frames), np.sign(frames) or 1.0, rotation)
        covariance = carry @ state.covariance @ carry.T + noise
        return Moving(there, state.velocity, (covariance + covariance.T) / 2.0), carry

    def _noise(self, frames: float, sign: float, rotation: Array) -> Array:
        power = np.array([self.agility.turn] * 3 + [self.agility.shift] * 3)
        out = np.zeros((12, 12))
        out[:6, :6] = np.diag(power * frames**3 / 3.0)
        out[6:, 6:] = np.diag(power * frames)
        cross = np.zeros((6, 6))
        cross[:3, :3] = sign * self.agility.turn * frames**2 / 2.0 * np.eye(3)
        cross[3:, 3:] = sign * self.agility.shift * frames**2 / 2.0 * rotation.T
        out[:6, 6:], out[6:, :6] = cross, cross.T
        return out

    def surprise(self, state: Moving, ct_to_world: Array, covariance: Array) -> float:
        """Return how far a measured pose is from a state's, in standard deviations (root mean
        square over the six degrees of freedom)."""
        twist = twist_about(state.ct_to_world, ct_to_world, self.centre_ct)
        spread = state.pose_covariance + covariance
        return float(np.sqrt(max(float(twist @ np.linalg.solve(spread, twist)), 0.0) / 6.0))

    def corrected(self, state: Moving, ct_to_world: Array, covariance: Array) -> Moving:
        """Return the state with a pose (4, 4) measured there, of a covariance (6, 6)."""
        twist = twist_about(state.ct_to_world, ct_to_world, self.centre_ct)
        spread = state.pose_covariance + covariance
        gain = np.linalg.solve(spread, state.covariance[:6]).T
        keep = np.eye(12)
        keep[:, :6] -= gain
        # Joseph's form stays a covariance whatever is rounded.
        after = keep @ state.covariance @ keep.T + gain @ covariance @ gain.T
        return self._moved(state, gain @ twist, (after + after.T) / 2.0)

    def _moved(self, state: Moving, error: Array, covariance: Array) -> Moving:
        there = compose_about(state.ct_to_world, error[:6], self.centre_ct)
        return Moving(there, state.velocity + error[6:], covariance)

    def smoothed(
        self,
        times: Sequence[float],
        measured: Mapping[int, tuple[Array, Array]],
        doubtful: Mapping[int, tuple[Array, Array]] | None = None,
    ) -> list[Moving]:
        """Return the state at each time (in frames), given poses and covariances by their numbers:
        what all of them together say. Those that are ``doubtful`` count where the motion up to them
        leads there (`bounds.GATE`). Raises ValueError without any that is not."""
        if not measured:
            raise ValueError("nothing is measured that a trajectory could go through")
        first = min(measured)
        state = self.begun(*measured[first])
        known: list[Moving] = [state]
        ahead: list[tuple[Moving, Array]] = []
        for number in range(first + 1, len(times)):
            predicted, carry = self.after(known[-1], times[number] - times[number - 1])
            ahead.append((predicted, carry))
            own, loose = measured.get(number), (doubtful or {}).get(number)
            state = predicted if own is None else self.corrected(predicted, *own)
            known.append(self._taken(predicted, loose) if own is None else state)
        out = [known[-1]]
        for state, (predicted, carry) in zip(known[-2::-1], ahead[::-1], strict=True):
            later = out[-1]
            error = np.concatenate(
                [
                    twist_about(predicted.ct_to_world, later.ct_to_world, self.centre_ct),
                    later.velocity - predicted.velocity,
                ]
            )
            share = np.linalg.solve(predicted.covariance, carry @ state.covariance).T
            more = later.covariance - predicted.covariance
            covariance = state.covariance + share @ more @ share.T
            out.append(self._moved(state, share @ error, (covariance + covariance.T) / 2.0))
        out.reverse()
        state, early = out[0], []
        for number in range(first - 1, -1, -1):
            state = self._taken(
                self.after(state, times[number] - times[number + 1])[0],
                (doubtful or {}).get(number),
            )
            early.append(state)
        return [*early[::-1], *out]

    def _taken(self, predicted: Moving, doubtful: tuple[Array, Array] | None) -> Moving:
        """A predicted state with a doubtful pose, where it leads there."""
        if doubtful is None or self.surprise(predicted, *doubtful) > bounds.GATE:
            return predicted
        return self.corrected(predicted, *doubtful)


def agility_of(
    times: Sequence[float], poses: Mapping[int, Array], centre_ct: Array
) -> Agility | None:
    """Return how a run moves by its poses (4, 4) at some of the times; None for too few.

    A pose is predicted from two in a row as by constant velocity, over several numbers of frames,
    and the worst mean error counts: a motion that swings is steady for a while, and then is not.
    """
    shift, turn = [], []
    for horizon in bounds.HORIZONS:
        moved, turned = [], []
        for number in poses:
            if number - 1 not in poses or number + horizon not in poses:
                continue
            back, ahead = times[number] - times[number - 1], times[number + horizon] - times[number]
            before, here, there = (Rigid(poses[number + n]) for n in (-1, 0, horizon))
            at = [pose.apply(centre_ct) for pose in (before, here, there)]
            missed = at[2] - at[1] - ahead / back * (at[1] - at[0])
            omega = Rotation.from_matrix(before.rotation.T @ here.rotation).as_rotvec() / back
            guess = here.rotation @ Rotation.from_rotvec(ahead * omega).as_matrix()
            growth = _growth(back, ahead)
            moved.append(missed @ missed / growth)
            turned.append(Rotation.from_matrix(guess.T @ there.rotation).magnitude() ** 2 / growth)
        if len(moved) > 2:
            shift.append(float(np.mean(moved)) / 3.0)
            turn.append(float(np.mean(turned)) / 3.0)
    if not shift:
        return None
    least = np.radians(bounds.LEAST_ACCELERATION_DEG) ** 2, bounds.LEAST_ACCELERATION_MM**2
    return Agility(max([*turn, least[0]]), max([*shift, least[1]]))


def _growth(back: float, ahead: float) -> float:
    """What unit power of white acceleration makes of the square of such a prediction's error: the
    path ahead, and that of a velocity which is the mean of the time back."""
    return ahead**3 / 3.0 + ahead**2 * back / 3.0
