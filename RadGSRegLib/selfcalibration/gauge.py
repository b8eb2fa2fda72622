"""Where all cameras and vertebrae are together, which X-rays do not say."""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from ..geometry import Array, compose_about, invert_rigid, twist_about
from ..multilevel import Setup, Unknowns


def as_meant(unknowns: Unknowns, setup: Setup, deviations: Array) -> Setup:
    """Return the setup moved as one piece to where its cameras are nearest to where they were
    meant to be, in units of how far each may be off (V, 6)."""
    pivot = unknowns.pivot_world

    def moved(twist: Array) -> Array:
        motion = compose_about(np.eye(4), twist, pivot)
        return np.asarray(setup.world_to_nominal @ motion)

    def off(twist: Array) -> Array:
        cameras = [twist_about(np.eye(4), shift, pivot) for shift in moved(twist)]
        return np.concatenate([c / d for c, d in zip(cameras, deviations, strict=True)])

    # Radians and mm: steps of a like effect.
    best = least_squares(off, np.zeros(6), x_scale=np.repeat([0.01, 1.0], 3)).x
    back = invert_rigid(compose_about(np.eye(4), best, pivot))
    return Setup(moved(best), np.asarray(back @ setup.ct_to_world))


def in_common_frame(points: Array, others: Array) -> Array:
    """Return points (N, 3) moved as one rigid piece to where they are nearest to others (N, 3)."""
    middle, other_middle = points.mean(axis=0), others.mean(axis=0)
    turn, _ = Rotation.align_vectors(others - other_middle, points - middle)
    return np.asarray(turn.apply(points - middle) + other_middle)
