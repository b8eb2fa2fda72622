"""How neighbouring vertebrae have moved against one another since the CT."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ..cases import RelativeMotion
from ..geometry import Array, invert_rigid, skew, transform_points
from ..registration import Registration
from .types import SpineRegistration


def relative_motions(spine: SpineRegistration) -> tuple[RelativeMotion, ...]:
    """Measure how each vertebra has moved as it is seen from its lower neighbour.

    Neighbours are those that stand next to each other in ``spine.levels``; the upper one of two is
    the one whose centre is further up (S) in the CT. Standard deviations are to first order those
    that ``spine.joint_covariance`` gives: what moves both vertebrae alike, as an error of all
    cameras may, does not count. As that covariance, they do not know of a wrong calibration.

    Args:
        spine: the poses of two vertebrae or more, with the covariance of all.

    Returns:
        One motion per pair, in the order of the levels; degrees and mm (`cases.RelativeMotion`).

    Raises:
        ValueError: where the covariance is not of as many twists as there are levels.

    Example:
        >>> from RadGSRegLib.multilevel import SpineRegistration, relative_motions
        >>> alone = SpineRegistration(
        ...     case, {case.label: registration}, case.label, registration.covariance, {}
        ... )
        >>> relative_motions(alone)
        ()
    """
    labels = list(spine.levels)
    joint = np.asarray(spine.joint_covariance, dtype=float)
    if joint.shape != (6 * len(labels), 6 * len(labels)):
        raise ValueError(f"a covariance of {len(labels)} levels cannot be {joint.shape}")
    out = []
    for pair in pairwise(range(len(labels))):
        upper, lower = sorted(pair, key=lambda n: -float(spine.levels[labels[n]].centre_ct[2]))
        at = np.concatenate([np.arange(6) + 6 * upper, np.arange(6) + 6 * lower])
        names = (labels[upper], labels[lower])
        both = [spine.levels[name] for name in names]
        out.append(_motion(names, both, joint[np.ix_(at, at)]))
    return tuple(out)


def _motion(
    labels: tuple[int, int], both: Sequence[Registration], covariance: Array
) -> RelativeMotion:
    upper, lower = both
    motion_ct = invert_rigid(lower.ct_to_world) @ np.asarray(upper.ct_to_world, dtype=float)
    centre = np.asarray(upper.centre_ct, dtype=float)
    jacobian = motion_jacobian(motion_ct, centre, lower.centre_ct)
    variances = np.diag(jacobian @ covariance @ jacobian.T)
    deviations = np.sqrt(np.maximum(variances, 0.0))  # NaN stays NaN
    return RelativeMotion(
        *labels,
        motion_ct=motion_ct,
        shift_mm=transform_points(motion_ct, centre) - centre,
        turn_deg=Rotation.from_matrix(motion_ct[:3, :3]).as_rotvec(degrees=True),
        shift_sigma_mm=deviations[3:],
        turn_sigma_deg=np.degrees(deviations[:3]),
    )


def motion_jacobian(
    motion_ct: ArrayLike, upper_centre_ct: ArrayLike, lower_centre_ct: ArrayLike
) -> Array:
    """The derivatives (6, 12) of turn (rotation vector, rad) and shift (mm) of a relative motion by
    the twists of the upper and of the lower vertebra, each under `geometry.compose_about`.

    With both perturbed, the motion is C_l exp(-xi_l) C_l^-1 D C_u exp(xi_u) C_u^-1. To first order
    its rotation R is perturbed on the right by w_u - R^T w_l, which the inverse of the right
    Jacobian of SO(3) makes a change of the rotation vector (Forster and others, On-Manifold
    Preintegration, IEEE T-RO 33, 2017). The upper vertebra's centre, which lies at p = D c_u,
    moves by R t_u - t_l + (p - c_l) x w_l.
    """
    motion = np.asarray(motion_ct, dtype=float)
    rotation = motion[:3, :3]
    lever = transform_points(motion, upper_centre_ct) - np.asarray(lower_centre_ct, dtype=float)
    turn = _inverse_right_jacobian(Rotation.from_matrix(rotation).as_rotvec())
    out = np.zeros((6, 12))
    out[:3, :3] = turn
    out[:3, 6:9] = -turn @ rotation.T
    out[3:, 3:6] = rotation
    out[3:, 6:9] = skew(lever)
    out[3:, 9:] = -np.eye(3)
    return out


def _inverse_right_jacobian(rotation_vector: Array) -> Array:
    angle = float(np.linalg.norm(rotation_vector))
    across = skew(rotation_vector)
    # 1 / a^2 - (1 + cos a) / (2 a sin a), whose terms cancel for a small angle.
    square = 1.0 / 12.0 + angle**2 / 720.0
    if angle > 1e-2:
        square = 1.0 / angle**2 - 0.5 / (angle * np.tan(0.5 * angle))
    return np.asarray(np.eye(3) + 0.5 * across + square * across @ across)
