"""How neighbouring vertebrae have moved against each other since the CT."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import Array, invert_rigid, skew, transform_points
from ..registration import Registration
from .types import SpineRegistration


@dataclass(frozen=True)
class RelativeMotion:
    """How a vertebra has moved as the one below it sees it, compared with the CT.

    ``matrix`` (4, 4) in the CT's frame: the identity where both lie to each other as in the CT.
    ``turn_deg`` (3,) is its rotation vector about the CT's axes L, P and S (leaning forwards,
    tilting to the left and turning to its left are positive), ``shift_mm`` (3,) the motion of the
    upper vertebra's centre along them; ``sigma`` (6,) one standard deviation of both, degrees and
    mm, of the pictures alone: what cameras leave open moves both vertebrae alike.
    """

    upper: int
    lower: int
    matrix: Array
    turn_deg: Array
    shift_mm: Array
    sigma: Array


def relative_motions(spine: SpineRegistration) -> list[RelativeMotion]:
    """Return the motions of vertebrae that follow one another in a result, from the head down.

    Args:
        spine: what `register_vertebrae` gave.

    Returns:
        One for each vertebra but the lowest: degrees, mm, and their standard deviations.

    Raises:
        ValueError: where a pose has no rotation (a matrix of zeros).

    Example:
        >>> from RadGSRegLib.multilevel import register_vertebrae, relative_motions
        >>> spine = register_vertebrae(case, [case.label], truth["start_ct_to_world"])
        >>> relative_motions(spine)  # of one vertebra there are none
        []
    """
    labels = list(spine.levels)
    out = []
    for (n, upper), (m, lower) in itertools.pairwise(enumerate(labels)):
        above, below = spine.levels[upper], spine.levels[lower]
        rows = np.r_[6 * n : 6 * n + 6, 6 * m : 6 * m + 6]
        covariance = spine.joint_covariance[np.ix_(rows, rows)]
        out.append(_motion(upper, lower, above, below, covariance))
    return out


def motion_between(
    upper_ct_to_world: Array, lower_ct_to_world: Array, centre_ct: Array
) -> tuple[Array, Array, Array]:
    """Return matrix (4, 4), turn (3,) degrees and shift (3,) mm as in `RelativeMotion`, of two
    poses and the upper vertebra's centre (3,) mm."""
    matrix = invert_rigid(lower_ct_to_world) @ upper_ct_to_world
    turn_deg = np.degrees(Rotation.from_matrix(matrix[:3, :3]).as_rotvec())
    return matrix, turn_deg, transform_points(matrix, centre_ct[None])[0] - centre_ct


def _motion(
    upper: int,
    lower: int,
    above: Registration,
    below: Registration,
    covariance: Array,
) -> RelativeMotion:
    """``covariance`` (12, 12) of both twists, the upper one's first."""
    centre = above.centre_ct
    matrix, turn_deg, shift_mm = motion_between(above.ct_to_world, below.ct_to_world, centre)
    by_twists = np.zeros((6, 12))
    # The upper one's own twist turns and shifts it along the axes that it has turned to,
    by_twists[:3, :3] = by_twists[3:, 3:6] = matrix[:3, :3]
    # the lower one's moves against it, about the lower one's centre.
    by_twists[:3, 6:9] = by_twists[3:, 9:] = -np.eye(3)
    by_twists[3:, 6:9] = skew(centre + shift_mm - below.centre_ct)
    sigma = np.sqrt(np.diag(by_twists @ covariance @ by_twists.T).clip(0.0))
    sigma[:3] = np.degrees(sigma[:3])
    return RelativeMotion(upper, lower, matrix, turn_deg, shift_mm, sigma)
